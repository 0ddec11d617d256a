// The daemon under test and the scripted upstream behind it, as `test_node.py` has started them.

import OpenAI from 'openai';

const daemon = process.env.ITSD_URL;
const upstreamBase = process.env.UPSTREAM_URL;

// As an application makes it: two retries by default, and a key that nobody checks.
export const client = new OpenAI({ baseURL: `${daemon}/v1`, apiKey: 'dummy-key' });

export const QUESTION = [{ role: 'user', content: 'What is 6 * 7?' }];

export const upstream = {
  /** What `POST /control` of `tests/upstream/server.rs` takes. */
  async control(script) {
    const answer = await fetch(`${upstreamBase}/control`, { method: 'POST', body: JSON.stringify(script) });
    if (!answer.ok) throw new Error(await answer.text());
  },
  reset: () => upstream.control({ reset: true, honour_n: false }),
  steps: (...steps) => upstream.control({ steps }),
  always: (step) => upstream.control({ steps: [step], cycle: true }),

  /** Waits until the counters are at least this (`in_flight`: exactly), and returns all of them. */
  async waitFor(counters) {
    const answer = await fetch(`${upstreamBase}/control?${new URLSearchParams(counters)}`);
    const report = await answer.json();
    if (!answer.ok) throw new Error(`never came to ${JSON.stringify(counters)}: ${JSON.stringify(report.counters)}`);
    return report.counters;
  },
  counters: () => upstream.waitFor({}),

  /** The chat requests received, in order. */
  async seen() {
    return (await (await fetch(`${upstreamBase}/control`)).json()).seen;
  },
};
