// The screens with the shop's telemetry: read, clicked through, live, wide and narrow, light and dark, without scripts.
import { check, faintTexts, hold, open, overflow, screenshot, SCREENS, scrolled, visit, wrongs } from './checks.mjs';
import { post, startPage, stop, until } from './processes.mjs';
import { BIDI, manyRequests, MARK } from './telemetry.mjs';

/** A span's link in its row: the sentences above lead to rows too. */
const spanLink = (page, name) => page.getByRole('table').getByRole('link', { name }).first();
/** The tables' rows that have this text. */
const rows = (page, text) => page.getByRole('row').filter({ hasText: text });
const shows = (page, text) => page.getByText(text).first().waitFor({ state: 'visible' });
const text = page => page.locator('main').innerText();

async function says(page, ...words) {
  const shown = await text(page);
  const missing = words.filter(word => !(word instanceof RegExp ? word.test(shown) : shown.includes(word)));
  hold(missing.length === 0, `${page.url()} does not say ${missing.join(', nor ')}:\n${shown.slice(0, 900)}`);
}

/** The address of a request in the list that has these words and this outcome. */
async function requestOf(page, ui, words, query = '') {
  await visit(page, ui, `/${query}`);
  return page.getByRole('table').getByRole('link', { name: words }).first().getAttribute('href');
}

export async function checkScreens({ browser, ui, shop, collector, requests, shots, misaki, folder }) {
  const { context, page, faults } = await open(browser, ui);
  const send = (method, path) => fetch(shop.url + path, { method });

  await check('the address loses its token, and opens the list', async () => {
    hold(page.url() === `${ui.origin}/`, `it is at ${page.url()}`);
    await page.getByRole('heading', { level: 1, name: 'Requests' }).waitFor();
    await until(`${requests} requests are listed`, async () => (await text(page)).includes(`${requests} requests`));
  });

  await check('each screen has one title, the same links, and marks its own', async () => {
    for (const [path, name] of SCREENS) {
      await visit(page, ui, '/');
      await page.getByRole('navigation').getByRole('link', { name, exact: true }).click();
      await page.waitForURL(url => url.pathname === path);
      await page.getByRole('heading', { level: 1, name }).waitFor();
      hold(await page.getByRole('heading', { level: 1 }).count() === 1, `${path} has more than one title`);
      hold((await page.title()).includes(name), `${path} is called ${await page.title()}`);
      hold(await page.locator('nav [aria-current=page]').innerText() === name, `${path} is not marked`);
    }
  });

  await check('the list: what failed, what was slow, by condition, by words, by service', async () => {
    const failed = Math.floor(requests / 4);
    await visit(page, ui, '/');
    await page.getByLabel('Failed only').check();
    await page.getByRole('button', { name: 'Show' }).click();
    await page.waitForURL(/failed=1/);
    await says(page, `${failed} requests`, 'failed', 'card expired');
    hold(await rows(page, 'POST /checkout').count() === failed, 'not all of them are checkouts');
    await visit(page, ui, '/');
    await page.getByLabel('Slower than').fill('300ms');
    await page.getByRole('button', { name: 'Show' }).click();
    await page.waitForURL(/slower=300ms/);
    await says(page, `${failed} requests`, 'SELECT purchase');
    for (const [query, count] of [['q=span.name%20%3D%3D%20%22SELECT%20purchase%22', failed], ['text=card%20EXPIRED', failed], ['service=payment', 3 * failed], ['service=nobody', 0]]) {
      await visit(page, ui, `/?${query}`);
      const found = await page.locator('main table').getByRole('link', { name: /^(?=.*(GET|POST))/ }).count();
      hold(found === count, `${query} has ${found} requests, wanted ${count}`);
    }
    await visit(page, ui, '/?q=span.nam+%3D%3D+1');
    await page.getByRole('alert').waitFor();
  });

  await check('a failed request: from the list to the span, to its log, and back', async () => {
    const path = await requestOf(page, ui, /POST \/checkout/, '?failed=1');
    await page.getByRole('table').getByRole('link', { name: /POST \/checkout/ }).first().click();
    await page.waitForURL(ui.origin + path);
    await says(page, 'card expired in 09/24', 'authorize card', 'frontend', 'cart', 'payment', 'Payment declined', 'bottleneck', 'failed');
    await spanLink(page, /authorize card/).click();
    await page.waitForURL(/span=[0-9a-f]{16}/);
    await says(page, 'card.kind', 'expired', 'peer.service', 'bank', /exception/, 'service.version', '1.4.2');
    await page.goBack();
    await page.goBack();
    await page.waitForURL(/failed=1/);
    hold(await page.getByLabel('Failed only').isChecked(), 'the list has lost its filter');
    await visit(page, ui, '/logs?text=payment+declined');
    const log = page.locator('main').locator(`a[href*="/trace/"]`).first();
    await log.click();
    await page.waitForURL(/\/trace\/[0-9a-f]{32}/);
    await says(page, 'Payment declined');
    await page.goBack();
    await page.waitForURL(/\/logs/);
    await says(page, 'Payment declined');
  });

  await check('a slow request names the query, and work after the answer stands apart', async () => {
    await visit(page, ui, await requestOf(page, ui, /GET \/recommendations/));
    await says(page, /bottleneck.*SELECT purchase/, 'Slow query');
    await spanLink(page, /SELECT purchase/).click();
    await page.waitForURL(/span=/);
    await says(page, 'SELECT sku FROM purchase WHERE buyer = $1');
    await visit(page, ui, await requestOf(page, ui, /POST \/checkout/, '?q=span.name+%3D%3D+%22SMTP+send%22'));
    await says(page, /after the answer/i, 'mail receipt', 'SMTP send');
  });

  await check('a request that is not here says so; its text and its document are to be had', async () => {
    await visit(page, ui, '/trace/00000000000000000000000000000001', 404);
    hold(!/undefined|panic/.test(await text(page)), 'no page');
    const path = await requestOf(page, ui, /POST \/checkout/);
    const answer = await context.request.get(`${ui.origin}${path}.json`);
    hold(answer.ok(), `${path}.json answered ${answer.status()}`);
    const lines = (await answer.text()).trim().split('\n').map(line => JSON.parse(line));
    hold(lines.some(line => line.resourceSpans?.length > 0), 'the document has no spans');
    await visit(page, ui, path);
    hold((await page.locator('main').evaluate(main => main.textContent)).includes(`00-${path.slice(-32)}-`), 'no traceparent');
  });

  await check('logs: by words, level, condition and service; all attributes', async () => {
    await visit(page, ui, '/logs');
    await says(page, 'Payment declined', 'Card charged', 'cart read', 'the shop is out of order', 'Slow query');
    for (const [query, has, lacks] of [['text=payment+DECLINED', 'Payment declined', 'Card charged'], ['level=WARN', 'Slow query', 'Card charged'],
      ['q=severity_number+%3E%3D+SEVERITY_NUMBER_ERROR', 'Payment declined', 'Slow query'], ['service=cart', 'cart read', 'Slow query']]) {
      await visit(page, ui, `/logs?${query}`);
      await says(page, has);
      hold(!(await text(page)).includes(lacks), `${query} shows ${lacks}`);
    }
    const whole = await page.locator('main').evaluate(main => main.textContent);
    hold(whole.includes('cart.id') && whole.includes('c-17'), 'the attributes of a log are not to be had');
  });

  await check('metrics: each with its unit and kind; one with its chart, its values, and a way to a request', async () => {
    await visit(page, ui, '/metrics');
    await says(page, 'shop.charges', 'shop.charge.amount', 'EUR', 'shop.carts.open', 'http.server.request.duration', 'shop.views');
    await visit(page, ui, '/metrics?service=payment');
    await page.getByRole('link', { name: 'http.server.request.duration' }).first().click();
    await page.waitForURL(/\/metric\?/);
    await page.getByRole('img').first().waitFor();
    hold(await page.getByRole('table').count() > 0, 'no table of values');
    await says(page, 'http.server.request.duration', 'http.route');
    hold(await page.locator('main a[href*="/trace/"]').count() > 0, 'no exemplar leads to its request');
  });

  await check('the pipeline: every component by its name, and the upstream that does not answer', async () => {
    await visit(page, ui, '/pipeline');
    for (const name of ['otlp', 'filter/noise', 'batch', 'debug', 'otlp_http/management']) await shows(page, name);
    await until('the upstream is said to be down', async () => /down/i.test(await text(page)));
  });

  await check('services: each with its figures, whom it calls, and links to what it did', async () => {
    await visit(page, ui, '/services');
    for (const name of ['frontend', 'cart', 'payment']) hold(await rows(page, name).count() > 0, `no row of ${name}`);
    const links = await page.locator('main a').evaluateAll(all => all.map(link => link.getAttribute('href')));
    for (const path of ['/?service=payment', '/logs?service=payment', '/metrics?service=payment']) hold(links.includes(path), `no link to ${path}`);
  });

  await checkLive(page, ui, send);
  await checkLooks(browser, ui, shots);
  await checkWithoutScripts(browser, ui);
  await check('nothing acted on these screens: no dialog, no other origin, no refusal of the policy', async () => {
    hold(faults.length === 0, faults.slice(0, 5).join('\n'));
    await context.close();
  });
  await checkLivesOn(browser, ui, collector);
  await checkGoesAway({ browser, ui, collector, misaki, folder });
}

async function checkLive(page, ui, send) {
  /** On a screen, sends a request, and sees it without the page being loaded again. */
  const live = async (path, method, route, condition) => {
    await visit(page, ui, path);
    await page.evaluate(() => window.isKept = true);
    const before = await text(page);
    await send(method, route);
    await until(`${path} shows ${method} ${route}`, async () => condition(await text(page), before));
    hold(await page.evaluate(() => window.isKept), `${path} was loaded again`);
  };
  const counted = (shown, word) => Number(new RegExp(`([\\d,]+) ${word}`).exec(shown)?.[1].replace(',', ''));
  await check('live: a request, a log and a metric appear while the screen is open', async () => {
    await live('/', 'GET', '/products', (now, before) => counted(now, 'requests') === counted(before, 'requests') + 1);
    await live('/logs?text=declined', 'POST', '/checkout?card=expired', (now, before) => now.split('Payment declined').length > before.split('Payment declined').length);
    await live('/metrics?service=payment', 'POST', '/checkout?card=visa', (now, before) => now !== before);
    await live('/services', 'GET', '/products', (now, before) => now !== before);
  });
  await check('live: paused, it stands still; what is typed, opened and focused stays', async () => {
    await visit(page, ui, '/');
    await page.getByRole('button', { name: /pause/i }).click();
    const before = await text(page);
    await send('GET', '/products');
    await page.waitForTimeout(2000);
    hold(counted(await text(page), 'requests') === counted(before, 'requests'), 'it went on');
    await page.getByRole('button', { name: /live|resume|go on/i }).click();
    await until('it goes on', async () => counted(await text(page), 'requests') > counted(before, 'requests'));
    await page.getByLabel('Text', { exact: true }).fill('half a wo');
    await send('GET', '/products');
    await page.waitForTimeout(1500);
    hold(await page.getByLabel('Text', { exact: true }).inputValue() === 'half a wo', 'what was typed is gone');
    await visit(page, ui, '/logs');
    await page.locator('main details summary').first().click();
    const link = page.locator('main').getByRole('link', { name: 'request' });
    await link.nth(3).focus();
    const to = await link.nth(3).getAttribute('href');
    const newest = await link.first().getAttribute('href');
    await send('GET', '/products');
    await until('the log is there', async () => await link.first().getAttribute('href') !== newest);
    hold(await page.locator('main details').first().evaluate(details => details.open), 'what was open is closed');
    hold(await page.evaluate(() => document.activeElement.getAttribute('href')) === to, 'the focus is lost, or on another link');
  });
  await check('by keys alone: a row is chosen, opened, and left', async () => {
    await visit(page, ui, '/?failed=1');
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/trace\//);
    await page.keyboard.press('Escape');
    await page.waitForURL(/failed=1/);
    await page.keyboard.press('/');
    hold(await page.evaluate(() => document.activeElement.localName) === 'input', 'no field has the focus');
    await page.keyboard.press('Escape');
    await page.keyboard.press('?');
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Escape');
  });
}

async function checkLooks(browser, ui, shots) {
  for (const colorScheme of ['light', 'dark']) {
    const { context, page } = await open(browser, ui, { colorScheme });
    const looks = [['requests', '/'], ...SCREENS.slice(1).map(([path]) => [path.slice(1), path])];
    const link = words => page.getByRole('table').getByRole('link', { name: words }).first().evaluate(link => link.pathname + link.search);
    await check(`${colorScheme}: a request, a span and a metric are found`, async () => {
      const request = await requestOf(page, ui, /POST \/checkout/, '?failed=1');
      looks.push(['request', request]);
      await visit(page, ui, request);
      looks.push(['span', await link(/authorize card/)]);
      await visit(page, ui, '/metrics?service=payment');
      looks.push(['metric', await link('http.server.request.duration')]);
    });
    for (const [name, path] of looks) {
      await check(`${colorScheme}: ${name} fits 1,600, 1,280 and 360 pixels, and its text stands out`, () => look(page, ui, name, path, colorScheme, shots));
    }
    await context.close();
  }
}

async function look(page, ui, name, path, colorScheme, shots) {
  await visit(page, ui, path);
  await page.waitForTimeout(300);
  const faults = [];
  for (const width of [360, 1600, 1280]) {
    await page.setViewportSize({ width, height: 900 });
    await screenshot(page, shots, `${name}-${colorScheme}-${width}`);
    const wide = await overflow(page);
    if (wide) faults.push(`at ${width}: ${wide}`);
    const tables = ['metrics', 'services'].includes(name) ? await scrolled(page) : '';
    if (tables) faults.push(`at ${width} must be scrolled: ${tables}`);
  }
  const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const isDark = ground.match(/\d+/g).slice(0, 3).every(part => Number(part) < 80);
  if (isDark !== (colorScheme === 'dark')) faults.push(`its ground is ${ground}`);
  faults.push(...(await faintTexts(page)).map(faint => `faint text ${faint}`), ...await wrongs(page, MARK, BIDI));
  hold(faults.length === 0, faults.join('\n'));
}

const unescaped = text => text.replace(/&(lt|gt|quot|#39|amp);/g, (_, name) => ({ lt: '<', gt: '>', quot: '"', '#39': "'", amp: '&' })[name]);

async function checkWithoutScripts(browser, ui) {
  const { context, page, faults } = await open(browser, ui, { javaScriptEnabled: false });
  await check('scripts off: every screen reads the same, and its forms answer', async () => {
    for (const [path, name] of SCREENS) {
      await visit(page, ui, path);
      await page.getByRole('heading', { level: 1, name }).waitFor();
    }
    await visit(page, ui, '/');
    await page.getByLabel('Text', { exact: true }).fill('receipt mailed');
    await page.getByRole('button', { name: 'Show' }).click();
    await page.waitForURL(/text=receipt/);
    await page.getByRole('table').getByRole('link', { name: /POST \/checkout/ }).first().click();
    await page.waitForURL(/\/trace\//);
    await says(page, 'mail receipt', 'SMTP send');
    await spanLink(page, /SMTP send/).click();
    await page.waitForURL(/span=/);
    await visit(page, ui, '/logs');
    await says(page, 'Payment declined');
    await page.locator('main form').first().getByRole('searchbox').first().press('Enter');
    await page.waitForURL(/\/logs/);
    await visit(page, ui, '/metrics');
    await page.getByRole('link', { name: 'shop.charges' }).first().click();
    await says(page, 'outcome=accepted');
  });
  await check('scripts off: every link leads somewhere', async () => {
    const [seen, waiting, dead] = [new Set(), ['/'], []];
    // So many of each kind of address: what a kind has in common fails in the first.
    const kinds = new Map();
    while (waiting.length > 0) {
      const path = waiting.pop();
      const kind = path.replace(/=[^&]*/g, '').replace(/[0-9a-f]{16,}/g, 'id');
      if (seen.has(path) || (kinds.get(kind) ?? 0) >= 4 || seen.size > 400) continue;
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      seen.add(path);
      const answer = await context.request.get(ui.origin + path);
      if (answer.status() !== 200) dead.push(`${answer.status()} ${path}`);
      if (!/html/.test(answer.headers()['content-type'])) continue;
      const links = [...(await answer.text()).matchAll(/<a [^>]*?href="([^"]*)"/g)].map(([, link]) => new URL(unescaped(link), ui.origin + path).href);
      waiting.push(...links.filter(link => link.startsWith(`${ui.origin}/`)).map(link => link.slice(ui.origin.length).replace(/#.*/, '')));
    }
    hold(dead.length === 0, `of ${seen.size}: ${dead.slice(0, 10).join('\n')}`);
    hold(seen.size > 20, `only ${seen.size} addresses`);
  });
  await check('scripts off: nothing acted', async () => {
    hold(faults.length === 0, faults.slice(0, 5).join('\n'));
    await context.close();
  });
}

/** Odd but sound telemetry on the page while it is open: it lives on. */
async function checkLivesOn(browser, ui, collector) {
  await check('odd telemetry while it is open: no times, no names, a cycle, numbers that are none', async () => {
    const { context, page, faults } = await open(browser, ui);
    const span = (spanId, parentSpanId) => ({ traceId: 'c'.repeat(32), spanId, parentSpanId, name: '', startTimeUnixNano: '0', endTimeUnixNano: '18446744073709551615' });
    await post(collector.http, 'traces', { resourceSpans: [{ scopeSpans: [{ spans: [span('1'.repeat(16), '2'.repeat(16)), span('2'.repeat(16), '1'.repeat(16))] }] }] });
    await post(collector.http, 'logs', { resourceLogs: [{ scopeLogs: [{ logRecords: [{}, { severityNumber: 99 }, { timeUnixNano: '18446744073709551615', body: { doubleValue: 'NaN' } }] }] }] });
    const point = { timeUnixNano: '1', count: '18446744073709551615', sum: 'Infinity', bucketCounts: ['18446744073709551615', '1'], explicitBounds: ['NaN'] };
    await post(collector.http, 'metrics', { resourceMetrics: [{ scopeMetrics: [{ metrics: [
      { name: '', gauge: { dataPoints: [{ asDouble: 'NaN' }, { asDouble: '-Infinity' }, {}] } }, { name: 'odd', histogram: { aggregationTemporality: 1, dataPoints: [point] } }] }] }] });
    await page.waitForTimeout(1500);
    for (const path of [...SCREENS.map(([path]) => path), `/trace/${'c'.repeat(32)}`]) await visit(page, ui, path);
    await visit(page, ui, '/metrics');
    const metrics = await page.locator('main a[href^="/metric"]').evaluateAll(all => all.map(link => link.getAttribute('href')));
    hold(metrics.some(path => path.includes('odd')), 'the odd metric is not listed');
    for (const path of metrics) await visit(page, ui, path);
    hold(faults.length === 0, faults.slice(0, 5).join('\n'));
    await context.close();
  });
}

async function checkGoesAway({ browser, ui, collector, misaki, folder }) {
  await check('the collector ends: the open page says so, what came is still there', async () => {
    const { context, page } = await open(browser, ui);
    hold(!/nothing comes/i.test(await text(page)), 'it says so before');
    collector.child.kill('SIGKILL');
    await collector.ended;
    await shows(page, /nothing comes/i);
    await visit(page, ui, '/?failed=1');
    await says(page, 'POST /checkout');
    await context.close();
  });
  await check('the page ends when it is told to, and says nothing of a fault', async () => {
    const status = await stop(ui);
    hold(status === 0, `it ended with ${status}`);
  });
  await check('the page is started anew: its old tab says what to do, and asks no more', async () => {
    const [file, port] = [`${folder}/one.jsonl`, new URL(ui.origin).port];
    await manyRequests(file, 1, Date.now());
    const start = name => startPage(misaki, folder, name, ['--listen', `127.0.0.1:${port}`, file]);
    const first = await start('first');
    const { context, page } = await open(browser, first);
    await stop(first);
    await shows(page, /the connection is lost/i);
    const second = await start('second');
    await shows(page, /started anew: open the address/i);
    let asked = 0;
    page.on('request', () => asked += 1);
    await page.waitForTimeout(5000);
    hold(asked === 0, `it asked ${asked} times more`);
    await page.goto(second.address);
    await shows(page, /● Live/);
    await stop(second);
    await context.close();
  });
}
