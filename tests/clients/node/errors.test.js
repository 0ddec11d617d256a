// What openai-node raises, that it does not repeat what has cost something, and that leaving it cancels upstream.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import OpenAI from 'openai';

import { client, QUESTION, upstream } from './service.js';

beforeEach(upstream.reset);

const ask = { model: 'gpt-4o-mini', messages: QUESTION };

test('a wrong value is a BadRequestError that names the parameter', async () => {
  await assert.rejects(client.chat.completions.create({ ...ask, budget: 0 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.param, error.code, error.type], ['budget', 'invalid_value', 'invalid_request_error']);
    assert.ok(error.headers.get('x-request-id'));
    return true;
  });
  assert.equal((await upstream.counters()).requests, 0);
});

test('an upstream that fails is a 502, and the client does not ask again', async () => {
  await upstream.always({ refuse: 500 });
  await assert.rejects(client.chat.completions.create({ ...ask, budget: 2 }), (error) => {
    assert.ok(error instanceof OpenAI.InternalServerError);
    assert.deepEqual([error.status, error.code], [502, 'upstream_unavailable']);
    assert.equal(error.headers.get('x-should-retry'), 'false');
    return true;
  });
  // The client's own two retries would have made six of it.
  assert.equal((await upstream.counters()).requests, 2);
});

test('a rate limit of the upstream is a RateLimitError with its delay, asked once', async () => {
  await upstream.always({ refuse: 429, retry_after: { seconds: 7 } });
  await assert.rejects(client.chat.completions.create({ ...ask, budget: 1 }), (error) => {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.equal(error.headers.get('retry-after'), '7');
    return true;
  });
  assert.equal((await upstream.counters()).requests, 1);
});

test('an error in the middle of a stream is thrown where the stream is read', async () => {
  await upstream.always({
    content: 'one two three four five',
    error: { message: 'the model fell over', type: 'server_error' },
  });
  const stream = await client.chat.completions.create({ ...ask, stream: true, budget: 1 });
  await assert.rejects(async () => {
    for await (const chunk of stream) assert.ok(chunk.id);
  }, OpenAI.APIError);
  assert.equal((await upstream.counters()).requests, 1);
});

test('aborting a request closes every call of its run', async () => {
  await upstream.always({ gate: 'never' });
  const controller = new AbortController();
  const asking = client.chat.completions.create(ask, { signal: controller.signal });
  const aborted = assert.rejects(asking, OpenAI.APIUserAbortError);
  await upstream.waitFor({ in_flight: 4 });
  controller.abort();
  await aborted;
  const counters = await upstream.waitFor({ in_flight: 0 });
  assert.equal(counters.closed_early, 4);
});

test('breaking out of a stream closes the call', async () => {
  await upstream.always({ content: 'one two three', stream_gate: 'never' });
  const stream = await client.chat.completions.create({ ...ask, stream: true, budget: 1 });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) break;
  }
  await upstream.waitFor({ in_flight: 0, closed_early: 1 });
});

test('aborting the stream helper closes the calls', async () => {
  await upstream.always({ gate: 'never' });
  const runner = client.chat.completions.stream(ask);
  const ended = assert.rejects(runner.done(), OpenAI.APIUserAbortError);
  await upstream.waitFor({ in_flight: 4 });
  runner.abort();
  await ended;
  await upstream.waitFor({ in_flight: 0 });
});
