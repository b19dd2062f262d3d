// The tests of `misaki ui` in Chromium; `run.sh` prepares what they need. One line a check; the last line counts them.
//
//   node suite.mjs MISAKI SHOP FOLDER SCREENSHOTS [screens|command|hostile|door|speed]...
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { summary } from './checks.mjs';
import { checkCommand } from './command.mjs';
import { checkDoor } from './door.mjs';
import { checkHostile } from './hostile.mjs';
import { startCollector, startPage, startShop, stopAll } from './processes.mjs';
import { checkScreens } from './screens.mjs';
import { showSpeed } from './speed.mjs';

const [misaki, script, folder, shots, ...only] = process.argv.slice(2);
const { chromium } = createRequire(`${folder}/`)('playwright-core');
const REQUESTS = 20;
const wants = part => only.length === 0 || only.includes(part);

mkdirSync(shots, { recursive: true });
const args = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-proxy-server', '--host-resolver-rules=MAP other.example 127.0.0.1'];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });
try {
  if (wants('screens') || wants('door')) {
    const collector = await startCollector(misaki, `${folder}/shop`, 'collector', true);
    const shop = await startShop(script, `${folder}/shop`, collector.http, REQUESTS);
    const ui = await startPage(misaki, `${folder}/shop`, 'page', ['--pid', String(collector.child.pid)]);
    if (wants('door')) await checkDoor({ browser, ui });
    if (wants('screens')) await checkScreens({ browser, ui, shop, collector, requests: REQUESTS, shots, misaki, folder: `${folder}/shop` });
    await stopAll();
  }
  if (wants('command')) {
    await checkCommand({ browser, misaki, folder: `${folder}/command`, script: `${folder}/../js/server.cjs` });
    await stopAll();
  }
  if (wants('hostile')) {
    const collector = await startCollector(misaki, `${folder}/hostile`, 'collector', false);
    const ui = await startPage(misaki, `${folder}/hostile`, 'page', ['--pid', String(collector.child.pid)]);
    await checkHostile({ browser, ui, collector, shots });
    await stopAll();
  }
  if (wants('speed')) await showSpeed({ browser, misaki, folder });
} finally {
  await stopAll();
  await browser.close();
}
process.exit(summary());
