// MQTT.js in a real browser: told what to do on standard input by tests/system/client_browser.py, one JSON array a line.
//
//   node client.mjs MODULES BROWSER ORIGIN
//
// The page is made here and has the given origin, so that the server's rules for origins apply. Each command is a function of
// `commands`, evaluated in the page; its answer is printed as JSON: {"ok": value} or {"error": text}.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [modules, executablePath, origin] = process.argv.slice(2);
const require = createRequire(join(modules, 'x.js'));
const { chromium } = require('playwright-core');
const profile = mkdtempSync(join(tmpdir(), 'muster-browser-'));
// Without LocalNetworkAccessChecks: what a page may do on this machine is the server's decision here, not the browser's.
const args = ['--no-sandbox', '--disable-gpu', '--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets'];

// Everything below runs in the page.
const commands = {
  // Options as MQTT.js has them; waits for the connection. Answers whether a session was there.
  connect: (name, url, options) => new Promise((resolve, reject) => {
    const client = window.mqtt.connect(url, { reconnectPeriod: 0, connectTimeout: 10000, ...options });
    const state = { client, messages: [], connects: 0 };
    window.clients[name] = state;
    client.on('message', (topic, payload, packet) => state.messages.push(
      { topic, text: payload.toString(), qos: packet.qos, retain: packet.retain, user: packet.properties?.userProperties ?? null }));
    client.on('connect', (connack) => { state.connects += 1; resolve(connack.sessionPresent); });
    client.on('error', (e) => reject(new Error(`${e.message} (${e.code ?? 'no code'})`)));
    client.on('close', () => setTimeout(() => reject(new Error('closed')), 100));
  }),
  subscribe: async (name, filter, options) => (await window.clients[name].client.subscribeAsync(filter, options)).map((g) => g.qos),
  publish: async (name, topic, text, options) => { await window.clients[name].client.publishAsync(topic, text, options); return true; },
  // Said without a connection: MQTT.js keeps it.
  queue: (name, topic, text, options) => { window.clients[name].client.publish(topic, text, options); return true; },
  // So many messages, and no more within half a second.
  messages: async (name, count) => {
    const { messages } = window.clients[name];
    for (const end = Date.now() + 15000; messages.length < count && Date.now() < end;) await new Promise((r) => setTimeout(r, 20));
    await new Promise((r) => setTimeout(r, 500));
    return messages.splice(0);
  },
  connects: (name) => window.clients[name].connects,
  end: async (name) => { await window.clients[name].client.endAsync(); return true; },
  // A WebSocket without MQTT: the subprotocol the server chose, or 'refused'.
  socket: (url, protocols) => new Promise((resolve) => {
    const s = new WebSocket(url, protocols);
    s.onopen = () => { resolve(s.protocol); s.close(); };
    s.onerror = () => resolve('refused');
  }),
};

const context = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args });
try {
  const page = await context.newPage();
  await page.route(`${origin}/interop`, (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>interop</title>' }));
  await page.goto(`${origin}/interop`);
  await page.addScriptTag({ path: join(modules, 'mqtt/dist/mqtt.min.js') });
  await page.evaluate(() => { window.clients = {}; });
  console.log(JSON.stringify({ ok: 'ready' }));
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, ...args] = JSON.parse(line);
    try {
      const value = await page.evaluate(`(${commands[name]})(...${JSON.stringify(args)})`);
      console.log(JSON.stringify({ ok: value }));
    } catch (e) {
      console.log(JSON.stringify({ error: String(e.message).split('\n')[0] }));
    }
  }
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
