// openai-node chats and streams: plain, scaled, and through its helpers.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import { client, QUESTION, upstream } from './service.js';

beforeEach(upstream.reset);

test('a vote over what the upstream answers comes back as one completion', async () => {
  const answers = ['I get \\boxed{41}.', 'It is \\boxed{42}.', 'So \\boxed{42.0}.', 'Thus \\boxed{42}.'];
  await upstream.steps(...answers.map((content) => ({ content })));
  const completion = await client.chat.completions.create({
    model: 'gpt-4o-mini',
    messages: QUESTION,
    return_response_only: false,
    stop_rule: 'none',
  });
  assert.equal(completion.object, 'chat.completion');
  assert.equal(completion.model, 'gpt-4o-mini');
  assert.equal(completion.choices.length, 1);
  assert.ok(answers.slice(1).includes(completion.choices[0].message.content));
  assert.equal(completion.choices[0].finish_reason, 'stop');
  assert.deepEqual(Object.values(completion.metadata.response_counts).sort(), [1, 3]);
  // Each of the four calls had a prompt of ten tokens.
  assert.equal(completion.usage.prompt_tokens, 40);
});

test('the budget can be named in the body and in a header, and the header wins', async () => {
  const ask = { model: 'gpt-4o-mini', messages: QUESTION, stop_rule: 'none' };
  const three = await client.chat.completions.create({ ...ask, budget: 3 }).withResponse();
  assert.equal(three.response.headers.get('x-its-candidates'), '3');
  assert.equal((await upstream.counters()).requests, 3);

  const two = await client.chat.completions
    .create({ ...ask, budget: 3 }, { headers: { 'X-ITS-Budget': '2' } })
    .withResponse();
  assert.equal(two.response.headers.get('x-its-candidates'), '2');
  assert.equal((await upstream.counters()).requests, 5);
  for (const { body } of await upstream.seen()) assert.equal(body.budget, undefined);
});

test('one plain call streams word by word and ends with its usage', async () => {
  await upstream.steps({ content: 'one two three' });
  const stream = await client.chat.completions.create({
    model: 'gpt-4o-mini',
    messages: QUESTION,
    stream: true,
    stream_options: { include_usage: true },
    budget: 1,
  });
  const words = [];
  let usage = null;
  for await (const chunk of stream) {
    const word = chunk.choices[0]?.delta.content;
    if (word) words.push(word);
    usage = chunk.usage ?? usage;
  }
  assert.deepEqual(words, ['one ', 'two ', 'three']);
  assert.equal(usage.completion_tokens, 3);
});

test('the stream helper puts a scaled answer together', async () => {
  await upstream.always({ content: 'It is \\boxed{42}.' });
  const runner = client.chat.completions.stream({
    model: 'gpt-4o-mini',
    messages: QUESTION,
    stream_options: { include_usage: true },
    budget: 3,
  });
  let text = '';
  runner.on('content', (delta) => (text += delta));
  const completion = await runner.finalChatCompletion();
  assert.equal(text, 'It is \\boxed{42}.');
  assert.equal(await runner.finalContent(), text);
  assert.equal(completion.choices[0].finish_reason, 'stop');
  assert.ok((await runner.totalUsage()).total_tokens >= 20);
});

test('an answer with a schema is parsed, and the vote goes to the same JSON written in two ways', async () => {
  const Sum = z.object({ left: z.number(), right: z.number(), result: z.number() });
  await upstream.steps(
    { content: '{"left": 6, "right": 7, "result": 41}' },
    { content: '{"left": 6, "right": 7, "result": 42}' },
    { content: '{"result": 42.0, "right": 7, "left": 6}' },
    { content: '{"result": "forty-two"}' },
  );
  const completion = await client.chat.completions.parse({
    model: 'gpt-4o-mini',
    messages: QUESTION,
    response_format: zodResponseFormat(Sum, 'sum'),
    stop_rule: 'none',
    return_response_only: false,
  });
  assert.deepEqual(completion.choices[0].message.parsed, { left: 6, right: 7, result: 42 });
  assert.deepEqual(Object.values(completion.metadata.response_counts).sort(), [1, 2]);
});

test('models are listed and retrieved', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes('gpt-4o-mini'));
  assert.equal((await client.models.retrieve('gpt-4o-mini')).object, 'model');
});
