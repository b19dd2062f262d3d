// Hostile texts in every place of telemetry that has one: on every screen they are text, and nothing else.
import { check, hold, open, overflow, screenshot, SCREENS, visit, wrongs } from './checks.mjs';
import { post, until } from './processes.mjs';
import { BIDI, CORPUS, hostile, hostileTrace, MARK } from './telemetry.mjs';

/** Pages of one kind (their addresses differ in their values) that are looked at. */
const OF_A_KIND = CORPUS.length;
/** What a screen may weigh, whatever telemetry weighs. */
const BYTES = 4_000_000;
const isPage = answer => /html/.test(answer.headers()['content-type']);

export async function checkHostile({ browser, ui, collector, shots }) {
  const { context, page, faults } = await open(browser, ui);
  await check('hostile telemetry arrives while the list is open', async () => {
    for (const [index, text] of CORPUS.entries()) {
      for (const [signal, request] of Object.entries(hostile(text, index, Date.now()))) {
        await post(collector.http, signal, request);
        // As fast as a visitor of the collector reads along: what is too fast for it is left out.
        await page.waitForTimeout(text.length > 20_000 ? 300 : 20);
      }
    }
    await until('all of them are listed', async () => (await page.locator('main').innerText()).includes(`${CORPUS.length} requests`));
    const found = await wrongs(page, MARK, BIDI);
    hold(found.length === 0, found.join('\n'));
  });

  const [seen, kinds] = [new Set(), new Map()];
  const waiting = [...SCREENS.map(([path]) => path), ...CORPUS.map((_, index) => `/trace/${hostileTrace(index)}`)].reverse();
  const wrong = [];
  const look = async path => {
    const answer = await page.goto(ui.origin + path, { waitUntil: 'domcontentloaded' });
    if (answer.status() !== 200) wrong.push(`it answered ${answer.status()}: ${path.slice(0, 300)}`);
    const size = (await answer.body()).length;
    if (size > BYTES) wrong.push(`${size} bytes: ${path.slice(0, 300)}`);
    if (!isPage(answer)) return [];
    const found = await wrongs(page, MARK, BIDI);
    wrong.push(...found.map(what => `${path.slice(0, 120)}: ${what}`));
    return page.locator('a').evaluateAll(all => all.map(link => link.href?.baseVal ?? link.href));
  };
  await check('each screen, request, span, metric and filter that a link leads to shows them as text', async () => {
    while (waiting.length > 0 && wrong.length < 10) {
      const path = waiting.pop();
      const kind = path.replace(/=[^&]*/g, '').replace(/[0-9a-f]{16,}/g, 'id').slice(0, 100);
      if (seen.has(path) || (kinds.get(kind) ?? 0) >= OF_A_KIND || seen.size > 400 || /[.]json/.test(path)) continue;
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      seen.add(path);
      const links = await look(path);
      const ours = links.map(link => new URL(link, ui.origin)).filter(url => url.origin === ui.origin);
      waiting.unshift(...ours.map(url => url.pathname + url.search));
    }
    console.log(`       ${seen.size} addresses of ${kinds.size} kinds`);
    hold(wrong.length === 0, wrong.slice(0, 10).join('\n'));
  });

  await check('they are there to be read: the markup as it was sent, nothing reckoned', async () => {
    const trace = index => `/trace/${hostileTrace(index)}`;
    for (const text of ['<script>pwned=1;alert(1)</script>', '{{7*7}}${7*7}#{7*7}<%= 7*7 %>pwned', '&lt;pwned-x&gt;&#60;pwned-x&#62;&quot;&amp;amp;']) {
      await visit(page, ui, trace(CORPUS.indexOf(text)));
      const shown = await page.locator('main').evaluate(main => main.textContent);
      hold(shown.includes(text), `${text} is not shown as it is`);
    }
  });

  await check('the same texts in addresses: in every field, as id, as page, as path', async () => {
    const fields = ['q', 'text', 'service', 'slower', 'since', 'failed', 'sort', 'page', 'level', 'before', 'from', 'to', 'name', 'view', 'span', 'find', 'rows', 'unfold', 'log', 'at', 'part'];
    const bad = [];
    for (const text of CORPUS.filter(text => text.length < 2000)) {
      const value = encodeURIComponent(text.toWellFormed?.() ?? text);
      for (const path of [...SCREENS.map(([path]) => path), `/trace/${hostileTrace(0)}`, '/metric']) {
        const query = fields.map(field => `${field}=${value}`).filter(pair => pair.length < 400).join('&').slice(0, 6000);
        const answer = await page.goto(`${ui.origin}${path}?${query.replace(/&part=[^&]*/, '')}`, { waitUntil: 'domcontentloaded' });
        if (answer.status() >= 500) bad.push(`${path} answered ${answer.status()}`);
        if (isPage(answer)) bad.push(...(await wrongs(page, MARK, BIDI)).map(what => `${path}: ${what}`));
      }
      for (const path of [`/trace/${value}`, `/${value}`]) {
        const answer = await context.request.get(ui.origin + path.slice(0, 4000), { maxRedirects: 0 });
        if (answer.status() < 400 && !['/trace/..'].includes(path)) bad.push(`${path} answered ${answer.status()}`);
      }
      if (bad.length > 9) break;
    }
    hold(bad.length === 0, bad.slice(0, 10).join('\n'));
  });

  await check('long texts widen no screen', async () => {
    const wide = [];
    for (const width of [360, 1600]) {
      await page.setViewportSize({ width, height: 900 });
      for (const path of [...SCREENS.map(([path]) => path), ...CORPUS.map((_, index) => `/trace/${hostileTrace(index)}`)]) {
        await visit(page, ui, path);
        const by = await overflow(page);
        if (by) wide.push(`${path} at ${width}: ${by}`);
      }
      await visit(page, ui, '/');
      await screenshot(page, shots, `hostile-${width}`);
    }
    hold(wide.length === 0, wide.slice(0, 6).join('\n'));
  });

  await check('nothing acted: no dialog, no other origin, no refusal of the policy', async () => {
    hold(faults.length === 0, [...new Set(faults)].slice(0, 8).join('\n'));
    await context.close();
  });
}
