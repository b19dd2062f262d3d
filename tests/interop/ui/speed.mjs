// How long the page takes with much on it. Printed, never a verdict.
import { open, visit } from './checks.mjs';
import { startPage, stop, until } from './processes.mjs';
import { longTrace, manyRequests } from './telemetry.mjs';

const COUNT = 10_000;

async function measure(page, ui, name, path) {
  const rounds = [];
  for (let round = 0; round < 5; round++) {
    const begin = performance.now();
    await visit(page, ui, path);
    await page.locator('main table a, main ol a').first().click({ trial: true });
    const interactive = performance.now() - begin;
    const timing = await page.evaluate(() => {
      const entry = performance.getEntriesByType('navigation')[0];
      return { first: entry.responseStart, ready: entry.domContentLoadedEventEnd, bytes: entry.decodedBodySize, elements: document.querySelectorAll('*').length };
    });
    rounds.push({ ...timing, interactive });
  }
  const middle = key => rounds.map(round => round[key]).sort((a, b) => a - b)[2];
  console.log(`     ${name}: first byte ${middle('first').toFixed(0)} ms, DOMContentLoaded ${middle('ready').toFixed(0)} ms, a link can be clicked after ${middle('interactive').toFixed(0)} ms; `
    + `${(middle('bytes') / 1024).toFixed(0)} KiB, ${middle('elements')} elements (the median of 5)`);
}

export async function showSpeed({ browser, misaki, folder }) {
  const now = Date.now();
  await manyRequests(`${folder}/many.jsonl`, COUNT, now);
  await longTrace(`${folder}/long.jsonl`, COUNT, now);
  for (const [file, title, find] of [['many', `a list of ${COUNT} requests`, null], ['long', `a trace of ${COUNT} spans`, 'main a[href^="/trace/"]']]) {
    const begin = performance.now();
    const ui = await startPage(misaki, folder, `page-${file}`, [`${folder}/${file}.jsonl`]);
    const { context, page } = await open(browser, ui);
    // It is all there when what is said of it has not changed for two seconds.
    let [said, since] = ['', 0];
    await until(`${file}.jsonl is shown`, async () => {
      await visit(page, ui, '/');
      const now = await page.locator('main').innerText();
      if (now !== said) [said, since] = [now, performance.now()];
      return /\d requests?\b/.test(said) && performance.now() - since > 2000;
    }, 120);
    console.log(`     ${title}: ${await page.locator('main caption').first().innerText()}, ${((since - begin) / 1000).toFixed(1)} s after the start`);
    await measure(page, ui, title, find ? await page.locator(find).first().getAttribute('href') : '/');
    if (!find) await measure(page, ui, 'its search by words', '/?text=render');
    await context.close();
    await stop(ui);
  }
}
