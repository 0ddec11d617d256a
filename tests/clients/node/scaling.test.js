// Ways to spend compute, through openai-node: rounds, syntheses, a judge, and what was found, in a stream.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { client, QUESTION, upstream } from './service.js';

beforeEach(upstream.reset);

test('the stream helper puts rounds of reflection together', async () => {
  await upstream.steps({ content: 'answer 1' }, { content: 'answer 2' }, { content: 'answer 3' });
  const runner = client.chat.completions.stream({ model: 'gpt-4o-mini-wait-2', messages: QUESTION });
  const envelope = '<test-time-compute>\nanswer 1\nanswer 2\n</test-time-compute>\n\nanswer 3';
  assert.equal(await runner.finalContent(), envelope);
  assert.equal((await runner.finalChatCompletion()).model, 'gpt-4o-mini-wait-2');
  const bodies = (await upstream.seen()).map(({ body }) => body);
  assert.deepEqual([...new Set(bodies.map(({ model }) => model))], ['gpt-4o-mini']);
  assert.equal(bodies.at(-1).messages.at(-1).content, 'wait, check your reasoning');
});

test('a synthesis of many answers streams as it is generated', async () => {
  const said = ['six', 'seven', 'eight'].map((content) => ({ content }));
  await upstream.steps(...said, { content: 'early late', stream_gate: 'rest' });
  const stream = await client.chat.completions.create({
    model: 'gpt-4o-mini',
    messages: QUESTION,
    stream: true,
    alg: 'mixture-of-n',
    budget: 3,
  });
  let heard = '';
  for await (const chunk of stream) {
    heard += chunk.choices[0]?.delta.content ?? '';
    if (heard === 'early ') await upstream.control({ open: ['rest'] });
  }
  assert.equal(heard, 'early late');
  assert.equal((await upstream.counters()).requests, 4);
});

test('what was found rides on the chunk that ends the stream', async () => {
  await upstream.always({ content: '\\boxed{42}' });
  const stream = await client.chat.completions.create({
    model: 'gpt-4o-mini',
    messages: QUESTION,
    stream: true,
    tts_strategy: 'self_consistency',
    num_paths: 3,
    return_response_only: false,
  });
  let last = null;
  for await (const chunk of stream) if (chunk.choices[0]?.finish_reason) last = chunk;
  assert.equal(last.choices[0].tts_metadata.selected_answer, '42');
  assert.ok(last.metadata.response_counts['42'] >= 2);
});

test('n asks for the best of the run', async () => {
  await upstream.steps(...[1, 2, 2, 2].map((number) => ({ content: `\\boxed{${number}}` })));
  const { choices } = await client.chat.completions.create({ model: 'gpt-4o-mini', messages: QUESTION, n: 2 });
  assert.deepEqual(choices.map(({ index }) => index), [0, 1]);
  assert.equal(choices[0].message.content, '\\boxed{2}');
});
