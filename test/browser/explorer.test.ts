/** The explorer in a real browser: EMRCHAIN_TEST_CHROMIUM names its executable. */
import { type Browser, chromium, type Page } from 'playwright-core';
import t from 'tap';
import { toHex } from '../../rpc/json.ts';
import { type TestConfig, testNode, testServer, tokenOf } from '../integration/rpc-fixture.ts';
import { tellStory } from '../integration/rpc-story.ts';
import { tag } from '../unit/vm-world.ts';

const executablePath = process.env['EMRCHAIN_TEST_CHROMIUM'] ?? '';
const skip = executablePath === '' ? 'EMRCHAIN_TEST_CHROMIUM does not name a Chromium (explorer)' : false;
const WAIT = { timeout: 10_000 };

async function serve(config: TestConfig) {
  const story = tellStory();
  const node = testNode(story.world);
  const server = testServer(node, config);
  await server.start();
  return { story, node, server };
}

/** A page in a browser of its own, and what went wrong in it: script errors, and what the security policy refused. */
async function open(url: string, options: Parameters<Browser['newPage']>[0] = {}) {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options });
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  await page.goto(url);
  return { page, problems, close: () => browser.close() };
}

const text = (page: Page, selector: string) => page.textContent(selector);
const height = (page: Page, value: number) =>
  page.locator('.tile-main .tile-value', { hasText: new RegExp(`^${value}$`) }).waitFor(WAIT);
const shows = (page: Page, content: string) => page.getByText(content).first().waitFor(WAIT);

t.test('shows what happens as it happens', { skip }, async (t) => {
  const { story, node, server } = await serve({ openReads: true });
  const { page, problems, close } = await open(`${server.address}/explorer/`);
  await page.waitForSelector('#live[data-state="live"]', WAIT);
  const before = story.world.head.header.height;
  await height(page, before);
  node.mine();
  await height(page, before + 1);

  await page.goto(`${server.address}/explorer/#/request/${toHex(story.requests.pending)}`);
  await page.waitForSelector('.slot', WAIT);
  t.equal(await page.locator('.slot[data-state="filled"]').count(), 1);
  t.equal(await text(page, 'h1'), 'Treatment hospital-b → hospital-a');
  for (const [name, filled] of [
    ['hans', 2],
    ['paula', 3],
  ] as const) {
    t.equal(story.world.approve(name, story.requests.pending), null);
    await page
      .locator('.slot[data-state="filled"]')
      .nth(filled - 1)
      .waitFor(WAIT);
  }
  await page.locator('.heading .badge', { hasText: 'granted' }).waitFor(WAIT);

  await page.keyboard.press('/');
  await page.keyboard.type('7');
  await page.keyboard.press('Enter');
  await page.waitForURL(/#\/block\/7$/, WAIT);
  await shows(page, 'record');
  await page.locator('.signers [data-signed="true"]').nth(2).waitFor(WAIT);
  t.equal(await page.locator('.signers [data-signed="true"]').count(), 3);
  for (const [typed, route] of [
    [toHex(story.record), 'record'],
    [toHex(story.requests.granted).slice(2).toUpperCase(), 'request'],
    [toHex(story.policy), 'policy'],
    [toHex(story.world.who('paula').id), 'account'],
    [toHex(story.world.head.hash), 'block'],
  ]) {
    await page.fill('#query', typed!);
    await page.press('#query', 'Enter');
    await page.waitForURL((url) => url.hash.startsWith(`#/${route}/`), WAIT);
  }
  await page.fill('#query', `0x${'ab'.repeat(32)}`);
  await page.press('#query', 'Enter');
  await shows(page, 'Nothing on this chain has this hash.');
  t.same(problems, []);
  await close();
  await server.stop();
});

t.test('with closed reads: the public view, until a token is pasted', { skip }, async (t) => {
  const { story, node, server } = await serve({});
  const { page, problems, close } = await open(`${server.address}/explorer/#/records`);
  await page.waitForSelector('#token', WAIT);
  t.match(await text(page, '.token pre'), `emrchain token --rpc ${server.address}`);
  await page.fill('#token', tokenOf(node, story.world.who('paula'), { origin: 'http://127.0.0.1:1' }));
  await page.click('.token button');
  await page.locator('.form-error', { hasText: 'is not how this node was reached' }).waitFor(WAIT);
  await page.fill('#token', tokenOf(node, story.world.who('paula'), { origin: server.address }));
  await page.click('.token button');
  await page.waitForSelector('tbody tr', WAIT);
  t.equal(
    await page.locator('h1 ~ *, .heading + .panel tbody tr').locator('a[href^="#/record/"]').count(),
    1,
    'her one record',
  );
  await page.goto(`${server.address}/explorer/#/record/${toHex(story.otherRecord)}`);
  await shows(page, 'out of the scope');
  await page.click('#access');
  await page.waitForSelector('#token', WAIT);
  t.same(problems, []);
  await close();
  await server.stop();
});

t.test('every view fits a phone, in both colours, and takes ledger text as text', { skip }, async (t) => {
  const { story, server } = await serve({ openReads: true });
  const { world } = story;
  const hostile = '<img src=x onerror=alert(1)>"\'&amp;';
  const admin = world.newActor('hospital-x', tag('admin of x'));
  world.do('admin@a', {
    kind: 'gov.propose',
    proposal: {
      kind: 'addOrganisation',
      orgId: 'hospital-x',
      name: hostile,
      custodianKey: null,
      admin: { publicKey: admin.publicKey, personTag: tag('admin of x'), possession: new Uint8Array(64) },
    },
    nonce: new Uint8Array(16),
  });
  const txs = world.head.txs.length;
  const routes = [
    '',
    'blocks',
    'txs',
    'requests',
    'requests/pending',
    'records',
    'validators',
    'accounts',
    `block/${world.head.header.height}`,
    `record/${toHex(story.record)}`,
    `request/${toHex(story.requests.board)}`,
    `request/${toHex(story.requests.revoked)}`,
    `policy/${toHex(story.boardPolicy)}`,
    `account/${toHex(world.who('paula').id)}`,
    `account/${toHex(world.who('hans').id)}`,
    'nowhere',
    'request/%zz',
  ];
  t.equal(txs, 1);
  for (const colorScheme of ['light', 'dark'] as const) {
    const { page, problems, close } = await open(`${server.address}/explorer/`, {
      viewport: { width: 375, height: 700 },
      colorScheme,
    });
    for (const route of routes) {
      await page.goto(`${server.address}/explorer/#/${route}`);
      await page.waitForSelector('main:not(:empty)', WAIT);
      await page
        .locator('[aria-busy]')
        .first()
        .waitFor({ ...WAIT, state: 'detached' });
      const wide = await page.evaluate<number>(
        'document.documentElement.scrollWidth - document.documentElement.clientWidth',
      );
      t.equal(wide, 0, `${route || 'overview'} does not scroll sideways`);
      t.equal(await page.locator('main img').count(), 0);
    }
    t.same(problems, []);
    await close();
  }
  const { page, problems, close } = await open(`${server.address}/explorer/#/block/${world.head.header.height}`);
  await page.click('a[href^="#/tx/"]');
  await shows(page, hostile);
  t.equal(await page.locator('main img').count(), 0);
  t.same(problems, []);
  await close();
  await server.stop();
});

t.test('comes back by itself, and misses nothing', { skip }, async (t) => {
  const first = await serve({ openReads: true });
  const { page, close } = await open(`${first.server.address}/explorer/`);
  await page.waitForSelector('#live[data-state="live"]', WAIT);
  const port = Number(new URL(first.server.address).port);
  await first.server.stop();
  await page.waitForSelector('#live[data-state="away"]', WAIT);
  first.node.mine();
  first.node.mine();
  const again = testServer(first.node, { openReads: true, port });
  await again.start();
  await page.waitForSelector('#live[data-state="live"]', WAIT);
  const caughtUp = first.story.world.head.header.height;
  await height(page, caughtUp);
  t.equal(await text(page, '.tile-main .tile-value'), String(caughtUp));
  await close();
  await again.stop();
});
