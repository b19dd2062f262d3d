// Who is let in: the page's own address with its token or cookie, and nobody else. A page of another origin learns nothing.
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { check, hold, open } from './checks.mjs';

/** Sends bytes as they are; returns the status, the headers in small letters, and the text. */
function raw(port, request) {
  return new Promise((done, fail) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(request));
    socket.setTimeout(5000, () => socket.destroy());
    socket.on('data', piece => {
      text += piece;
      if (text.length > 200_000) socket.destroy();
    });
    socket.on('error', fail);
    socket.on('close', () => {
      const [head, ...body] = text.split('\r\n\r\n');
      done({ status: Number(head.split(' ')[1]), head: head.toLowerCase(), body: body.join('\r\n\r\n') });
    });
  });
}

const POLICY = ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"];
const HEADERS = ['x-content-type-options: nosniff', 'referrer-policy: no-referrer', 'cross-origin-opener-policy: same-origin', 'cross-origin-resource-policy: same-origin', 'cache-control: no-store'];
const PATHS = ['/', '/logs', '/metrics', '/pipeline', '/services', '/live', '/page.js', '/page.css', '/nothing', '/favicon.ico', '/?part=1', '/trace/00000000000000000000000000000001.json'];

export async function checkDoor({ browser, ui }) {
  const port = Number(new URL(ui.origin).port);
  const host = `127.0.0.1:${port}`;
  const { context } = await open(browser, ui);
  const [known, ...more] = await context.cookies();
  const cookie = `${known.name}=${known.value}`;
  const token = new URL(ui.address).searchParams.get('token');
  const ask = (line, ...headers) => raw(port, `${line}\r\n${[...headers, 'Connection: close', '', ''].join('\r\n')}`);
  const get = (path, ...headers) => ask(`GET ${path} HTTP/1.1`, ...headers);

  await check('the cookie: one, of this site alone, unseen by scripts, gone with the browser', async () => {
    hold(more.length === 0, `more cookies: ${more.map(cookie => cookie.name)}`);
    hold(known.httpOnly && known.sameSite === 'Strict' && known.path === '/' && known.expires === -1, JSON.stringify({ ...known, value: '' }));
    hold(token.length >= 22, `a token of ${token.length} characters`);
  });

  await check('with the cookie every address answers; each answer has its headers', async () => {
    for (const path of PATHS.filter(path => path !== '/live')) {
      const answer = await get(path, `Host: ${host}`, `Cookie: ${cookie}`);
      hold([200, 404].includes(answer.status), `${path}: ${answer.status}`);
      const missing = [...POLICY, ...HEADERS].filter(header => !answer.head.includes(header));
      hold(missing.length === 0, `${path} lacks ${missing.join(', ')}`);
      hold(!answer.head.includes('access-control-'), `${path} has a CORS header`);
    }
  });

  const refused = {
    'no cookie': [`Host: ${host}`],
    'another cookie': [`Host: ${host}`, `Cookie: ${known.name}=${'0'.repeat(known.value.length)}`],
    'an empty cookie': [`Host: ${host}`, `Cookie: ${known.name}=`],
    'the beginning of the cookie': [`Host: ${host}`, `Cookie: ${known.name}=${known.value.slice(0, -1)}`],
    'another host': ['Host: other.example', `Cookie: ${cookie}`],
    'another host with this port': [`Host: other.example:${port}`, `Cookie: ${cookie}`],
    'the host without its port': ['Host: 127.0.0.1', `Cookie: ${cookie}`],
    'the host with another port': ['Host: 127.0.0.1:1', `Cookie: ${cookie}`],
    'a host that begins with ours': [`Host: ${host}.other.example`, `Cookie: ${cookie}`],
    'a host with a user': [`Host: a@${host}`, `Cookie: ${cookie}`],
    'two hosts': [`Host: ${host}`, 'Host: other.example', `Cookie: ${cookie}`],
    'two times the host': [`Host: ${host}`, `Host: ${host}`, `Cookie: ${cookie}`],
    'no host': [`Cookie: ${cookie}`],
    'an empty host': ['Host:', `Cookie: ${cookie}`],
    'a request of another site': [`Host: ${host}`, `Cookie: ${cookie}`, 'Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: no-cors', 'Sec-Fetch-Dest: script'],
    'a request of another port': [`Host: ${host}`, `Cookie: ${cookie}`, 'Sec-Fetch-Site: same-site', 'Sec-Fetch-Mode: cors', 'Sec-Fetch-Dest: empty', 'Origin: http://127.0.0.1:1'],
    'a frame of another site': [`Host: ${host}`, `Cookie: ${cookie}`, 'Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: navigate', 'Sec-Fetch-Dest: iframe'],
  };
  const shortest = await get('/', `Host: ${host}`);
  for (const [name, headers] of Object.entries(refused)) {
    await check(`refused: ${name}`, async () => {
      for (const path of PATHS) {
        const answer = await get(path, ...headers);
        // A server may call a request without one host, or with two, none at all.
        const wanted = /host/.test(name) ? [400, 403] : [403];
        hold(wanted.includes(answer.status), `${path}: ${answer.status}`);
        hold(answer.body.length < 500 && !/checkout|frontend|payment/.test(answer.body), `${path} tells: ${answer.body.slice(0, 200)}`);
        hold(!answer.head.includes('set-cookie') && !answer.head.includes('access-control-'), `${path}: ${answer.head}`);
        // At another host nothing is explained.
        const words = /host/.test(name) ? '403 Forbidden\n' : shortest.body;
        if (answer.status === 403) hold(answer.body === words, `${path} is refused in other words: ${answer.body}`);
      }
    });
  }

  await check('refused: a wrong, an empty, a shortened token; the right one at another host', async () => {
    for (const wrong of ['', '0'.repeat(token.length), token.slice(0, -1), `${token}0`]) {
      const answer = await get(`/?token=${wrong}`, `Host: ${host}`);
      hold(answer.status === 403 && !answer.head.includes('set-cookie'), `token ${wrong.length} long: ${answer.status}`);
    }
    const other = await get(`/?token=${token}`, 'Host: other.example');
    hold([400, 403].includes(other.status), `another host: ${other.status}`);
    const absolute = await ask(`GET http://other.example/?token=${token} HTTP/1.1`, `Host: ${host}`, `Cookie: ${cookie}`);
    hold([400, 403].includes(absolute.status), `an address of another host: ${absolute.status}`);
  });

  await check('a token makes one redirect to the same page without it, never elsewhere', async () => {
    for (const path of ['/', '/logs', '//other.example/', '/\\other.example/', '/trace/%0d%0aX:%20y']) {
      const answer = await get(`${path}?text=a&token=${token}`, `Host: ${host}`);
      const to = /location: (.*)/.exec(answer.head)?.[1].trim();
      hold(answer.status >= 400 || (answer.status === 303 && to), `${path}: ${answer.status}`);
      hold(!to || (new URL(to, ui.origin).origin === ui.origin && !to.includes(token)), `${path} leads to ${to}`);
    }
  });

  await check('refused: other methods, whatever they carry', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'CONNECT']) {
      for (const origin of [[], ['Origin: http://other.example'], [`Origin: ${ui.origin}`], ['Origin: null']]) {
        const answer = await ask(`${method} / HTTP/1.1`, `Host: ${host}`, `Cookie: ${cookie}`, 'Content-Length: 0', ...origin);
        hold([400, 403, 405].includes(answer.status), `${method} ${origin}: ${answer.status}`);
        hold(!answer.head.includes('access-control-'), `${method}: a CORS header`);
      }
    }
  });

  await checkStrangers(context, ui);
  await context.close();
}

/** What a page of another origin tries. Each answers with what it has learned, or with nothing. */
const ATTEMPTS = `
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
const element = (name, attributes) => new Promise(done => {
  const made = Object.assign(document.createElement(name), attributes);
  made.onload = () => done(name + ' loaded'); made.onerror = () => done(''); setTimeout(() => done(''), 3000);
  document.body.append(made);
});
const attempts = {
  'fetch': () => fetch(target, { credentials: 'include' }).then(answer => answer.text()),
  'fetch part': () => fetch(target + '?part=1', { credentials: 'include' }).then(answer => answer.text()),
  'fetch with a header': () => fetch(target, { credentials: 'include', headers: { 'x-a': '1' } }).then(answer => answer.text()),
  'opaque fetch': () => fetch(target, { credentials: 'include', mode: 'no-cors' }).then(answer => answer.text()),
  'post': () => fetch(target, { method: 'POST', credentials: 'include', body: 'a=1' }).then(answer => answer.text()),
  'live': () => new Promise(done => { const source = new EventSource(target + 'live', { withCredentials: true }); source.onopen = () => done('open'); source.onerror = () => { source.close(); done(''); }; }),
  'script': () => element('script', { src: target + 'page.js' }),
  'module': () => element('script', { src: target + 'page.js', type: 'module' }),
  'style': () => element('link', { rel: 'stylesheet', href: target + 'page.css' }),
  'image': () => element('img', { src: target }),
  'object': async () => { const made = Object.assign(document.createElement('object'), { data: target }); document.body.append(made); await wait(1000); return made.contentDocument?.body.innerText ?? ''; },
  'frame': async () => { const made = Object.assign(document.createElement('iframe'), { src: target }); document.body.append(made); await wait(1500); try { return made.contentDocument?.body.innerText ?? ''; } catch { return ''; } },
  'window': async () => { const opened = window.open(target); await wait(1500); try { return opened && !opened.closed ? String(opened.length || opened.document.body.innerText) : ''; } catch { return ''; } },
};
const learned = {};
for (const [name, attempt] of Object.entries(attempts)) {
  try { learned[name] = await attempt(); } catch { learned[name] = ''; }
}
window.learned = learned;
`;

async function checkStrangers(context, ui) {
  const server = createServer((request, response) => {
    const isScript = request.url === '/attempts.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? `const target = '${ui.origin}/';${ATTEMPTS}` : `<!doctype html><title>stranger</title><a href="${ui.origin}/">a link</a><script type="module" src="/attempts.js"></script>`);
  });
  await new Promise(done => server.listen(0, '0.0.0.0', done));
  const port = server.address().port;
  for (const host of ['127.0.0.1', 'localhost', 'other.example']) {
    await check(`a page of http://${host}:PORT learns nothing by fetching, embedding, framing, opening`, async () => {
      const page = await context.newPage();
      await page.goto(`http://${host}:${port}/`);
      await page.waitForFunction(() => window.learned, null, { timeout: 30_000 });
      const learned = Object.entries(await page.evaluate(() => window.learned)).filter(([, what]) => what !== '');
      hold(learned.length === 0, `it learned by ${JSON.stringify(learned).slice(0, 400)}`);
      for (const frame of page.frames().slice(1)) hold(!/Requests|Misaki/.test(await frame.content()), 'the page is in a frame');
      if (host === 'other.example') {
        await page.getByRole('link', { name: 'a link' }).click();
        await page.waitForURL(`${ui.origin}/`);
        hold(!/checkout/.test(await page.content()), 'a link of another site opens the page');
      }
      for (const other of context.pages()) if (other.url() !== 'about:blank' && other !== context.pages()[0]) await other.close();
    });
  }
  await check('a name that leads to the page’s address opens nothing', async () => {
    const page = await context.newPage();
    const token = new URL(ui.address).searchParams.get('token');
    for (const path of ['/', `/?token=${token}`]) {
      const answer = await page.goto(`http://other.example:${new URL(ui.origin).port}${path}`);
      hold(answer.status() === 403 && !/checkout/.test(await page.content()), `${answer.status()}`);
    }
    await page.close();
  });
  server.closeAllConnections();
  await new Promise(done => server.close(done));
}
