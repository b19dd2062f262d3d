// How a check is said, and what is watched on every page: nothing of telemetry may act.
import { join } from 'node:path';

export const SCREENS = [['/', 'Requests'], ['/logs', 'Logs'], ['/metrics', 'Metrics'], ['/pipeline', 'Pipeline'], ['/services', 'Services']];
const count = { ok: 0, FAIL: 0 };

// Playwright colours its messages.
const plain = text => text.replace(/\x1b\[[0-9;]*m/g, '');

/** Runs one check and says how it went; the others run whatever it does. */
export async function check(name, body) {
  const begin = Date.now();
  let [verdict, detail] = ['ok', ''];
  try {
    await body();
  } catch (error) {
    [verdict, detail] = ['FAIL', `\n       ${plain(String(error?.message ?? error)).split('\n').slice(0, 12).join('\n       ')}`];
  }
  count[verdict] += 1;
  console.log(`${verdict.padEnd(4)} ${((Date.now() - begin) / 1000).toFixed(1).padStart(5)} s  ${name}${detail}`);
}

export function hold(holds, message) {
  if (!holds) throw new Error(message);
}

export function summary() {
  console.log(`${count.ok} passed, ${count.FAIL} failed`);
  return count.FAIL === 0 ? 0 : 1;
}

/** A browser context on the page, whose pages note what must not happen in `faults`. */
export async function open(browser, ui, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(15_000);
  const faults = [];
  context.on('request', request => {
    const url = new URL(request.url());
    if (url.origin !== ui.origin) faults.push(`a request to ${request.url().slice(0, 200)}`);
  });
  context.on('dialog', dialog => {
    faults.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  context.on('weberror', error => faults.push(`an error of a script: ${error.error().message}`));
  context.on('console', message => {
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) faults.push(`console: ${message.text().slice(0, 300)}`);
  });
  const page = await context.newPage();
  await page.goto(ui.address, { waitUntil: 'domcontentloaded' });
  return { context, page, faults };
}

/** Goes to a path of the page, which must be there. */
export async function visit(page, ui, path, status = 200) {
  const answer = await page.goto(new URL(path, ui.origin).href, { waitUntil: 'domcontentloaded' });
  hold(answer.status() === status, `${path} answered ${answer.status()}`);
}

/** What the page must be on every screen, whatever telemetry says; returns what is wrong. */
export function wrongs(page, mark, bidi) {
  return page.evaluate(([mark, bidi]) => {
    const found = [];
    const say = (what, element) => found.length < 10 && found.push(`${what}: ${element.outerHTML.slice(0, 200)}`);
    const isOurs = url => url === '' || new URL(url, location.href).origin === location.origin;
    for (const element of document.querySelectorAll('*')) {
      if (element.localName.startsWith(mark) || element.id.includes(mark)) say('an element of telemetry', element);
      if (/^(img|iframe|object|embed|base|animate|foreignobject|style)$/i.test(element.localName)) say('an element that no screen has', element);
      if (element.localName === 'meta' && element.httpEquiv) say('a meta that acts', element);
      if (element.localName === 'script' && !(element.src && isOurs(element.src))) say('a script', element);
      for (const { name, value } of element.attributes) {
        if (/^on|^style$|^srcdoc$/.test(name)) say(`an attribute ${name}`, element);
        if (/^(href|src|action|formaction|xlink:href|poster|data)$/.test(name) && !isOurs(value)) say(`${name} leads elsewhere`, element);
        if ([...value].some(letter => bidi.includes(letter)) && !['value', 'href', 'data-copy'].includes(name)) say(`reading order turned in ${name}`, element);
      }
    }
    if (typeof window[mark] !== 'undefined' && !(window[mark] instanceof Element)) found.push('a script of telemetry ran');
    const text = document.body.textContent;
    const raw = [...text].find(letter => bidi.includes(letter) || /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]/.test(letter));
    if (raw) found.push(`the text has U+${raw.codePointAt(0).toString(16).padStart(4, '0')} as it is, near ${JSON.stringify(text.slice(Math.max(0, text.indexOf(raw) - 40), text.indexOf(raw) + 10))}`);
    return found;
  }, [mark, bidi]);
}

/** Texts whose contrast is below what WCAG asks for (4.5, or 3 where large); pictures are left out. */
export function faintTexts(page) {
  return page.evaluate(() => {
    const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const parse = text => text.match(/[\d.]+/g).map(Number);
    const luminance = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
    const ground = element => {
      for (; element; element = element.parentElement) {
        const colour = parse(getComputedStyle(element).backgroundColor);
        if (colour.length < 4 || colour[3] === 1) return colour;
      }
      return [255, 255, 255];
    };
    const found = new Map();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!node.data.trim() || element.closest('svg') || !element.checkVisibility()) continue;
      const style = getComputedStyle(element);
      const [one, other] = [luminance(parse(style.color)), luminance(ground(element))].sort((a, b) => b - a);
      const ratio = (one + 0.05) / (other + 0.05);
      if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) found.set(`${style.color} .${element.className}`, `${ratio.toFixed(2)}: ${node.data.trim().slice(0, 40)} (${style.color})`);
    }
    return [...found.values()].slice(0, 5);
  });
}

/** What reaches beyond either side of the window; empty if nothing does. */
export const overflow = page => page.evaluate(() => {
  const rects = [...document.body.querySelectorAll('*')].map(element => [element, element.getBoundingClientRect()]);
  const cut = rects.find(([element, { left, right, width }]) => left < -1 && right > 1 && width > 1 && !element.closest('svg'));
  if (cut) return `beyond the left side is a part of ${cut[0].outerHTML.slice(0, 160)}`;
  const wide = document.scrollingElement.scrollWidth - innerWidth;
  const scrolls = element => element !== document.body && (getComputedStyle(element).overflowX !== 'visible' || scrolls(element.parentElement));
  const far = rects.find(([element, { right }]) => right > innerWidth + 1 && !scrolls(element.parentElement));
  return wide > 0 ? `${wide} px too wide, for ${far?.[0].outerHTML.slice(0, 160)}` : '';
});

/** The tables that are wider than their place, so that they must be scrolled. */
export const scrolled = page => page.locator('main .scroll').evaluateAll(all =>
  all.filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth + 1).map(element => element.ariaLabel).join(', '));

// Without its default of hiding the caret, which puts a style attribute on each field.
export const screenshot = (page, folder, name) => page.screenshot({ path: join(folder, `${name}.png`), caret: 'initial' });
