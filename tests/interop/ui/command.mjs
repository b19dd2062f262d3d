// `misaki --ui -- COMMAND` with a server that has the SDK of Node, and in its environment only what `misaki` sets.
import { check, hold, open, visit } from './checks.mjs';
import { freePorts, startBeside, stop, until } from './processes.mjs';

/** Less than the seconds after which this SDK sends spans by itself, and metrics: 5 and 60. */
const SOON = 2;
const METRICS = 7;
const row = (page, name) => page.getByRole('table').getByRole('link', { name }).first();

export async function checkCommand({ browser, misaki, folder, script }) {
  const [port] = await freePorts(1);
  const server = `http://127.0.0.1:${port}`;
  const ui = await startBeside(misaki, folder, [process.execPath, script], { PORT: String(port) });
  const { context, page, faults } = await open(browser, ui);
  await until('the server listens', () => fetch(`${server}/first`).then(() => true, () => false));
  await check(`misaki --ui -- node: a request is on the page within ${SOON} s, a metric within ${METRICS}`, async () => {
    const begun = Date.now();
    const within = seconds => ({ timeout: begun + seconds * 1000 - Date.now() });
    hold((await fetch(`${server}/second`)).ok, 'the server does not answer');
    await page.getByText('2 requests', { exact: true }).waitFor(within(SOON));
    await visit(page, ui, '/logs?text=second');
    await page.getByText('asked for /second').first().waitFor(within(SOON));
    await page.getByRole('link', { name: 'request', exact: true }).first().click();
    await page.getByText(/1 span.*1 log/).first().waitFor(within(METRICS));
    await visit(page, ui, '/metrics');
    await row(page, 'server.views').waitFor(within(METRICS));
    hold(faults.length === 0, faults.slice(0, 5).join('\n'));
  });
  await check('misaki --ui -- node: a signal ends the program, and another one the page', async () => {
    ui.child.kill('SIGTERM');
    await ui.said(/the program has ended; the page stays/);
    await visit(page, ui, '/');
    await row(page, 'server GET').waitFor();
    await context.close();
    const status = await stop(ui);
    hold(status === 0, `it ended with ${status}`);
  });
}
