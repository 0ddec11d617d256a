// openai-node's stream helpers, live at budget 1 and after a vote, with text, tools and what goes wrong.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import OpenAI from 'openai';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import { client, QUESTION, upstream } from './service.js';

const Calculator = z.object({ expression: z.string() });
const tools = [zodFunction({ name: 'calculator', parameters: Calculator })];
const expression = '847 * 293 + 156';
const callOf = (text, id = 'call_abc') => ({ id, name: 'calculator', arguments: JSON.stringify({ expression: text }) });

const ask = { model: 'gpt-4o-mini', messages: QUESTION, stop_rule: 'none' };

beforeEach(upstream.reset);

for (const budget of [1, 5]) {
  test(`text comes in events and as a whole, with the usage of every call, at budget ${budget}`, async () => {
    await upstream.always({ content: 'one two three' });
    const runner = client.chat.completions.stream({ ...ask, budget, stream_options: { include_usage: true } });
    const deltas = [];
    runner.on('content.delta', ({ delta }) => deltas.push(delta));
    const completion = await runner.finalChatCompletion();
    assert.deepEqual(deltas, budget === 1 ? ['one ', 'two ', 'three'] : ['one two three']);
    assert.equal(completion.choices[0].message.content, 'one two three');
    assert.equal(completion.usage.completion_tokens, 3 * budget);
  });

  test(`usage is left out unless it is asked for, at budget ${budget}`, async () => {
    await upstream.always({ content: 'one' });
    for (const stream_options of [undefined, { include_usage: false }]) {
      const stream = await client.chat.completions.create({ ...ask, budget, stream: true, stream_options });
      for await (const chunk of stream) {
        assert.equal(chunk.choices.length, 1);
        assert.equal(chunk.usage, undefined);
      }
    }
  });

  test(`parallel tool calls are parsed and told apart, at budget ${budget}`, async () => {
    await upstream.always({ tool_calls: [callOf(expression), callOf('1 + 1', 'call_def')] });
    const runner = client.chat.completions.stream({ ...ask, tools, budget });
    const done = [];
    runner.on('tool_calls.function.arguments.done', ({ index, parsed_arguments }) => done.push([index, parsed_arguments]));
    const { choices } = await runner.finalChatCompletion();
    assert.deepEqual(done, [[0, { expression }], [1, { expression: '1 + 1' }]]);
    assert.deepEqual(choices[0].message.tool_calls.map(({ id }) => id), ['call_abc', 'call_def']);
    assert.equal(choices[0].finish_reason, 'tool_calls');
  });

  test(`runTools drives a streamed loop, at budget ${budget}`, async () => {
    const calls = Array(budget).fill({ tool_calls: [callOf(expression)] });
    const replies = Array(budget).fill({ content: 'It is 248327.' });
    await upstream.steps(...calls, ...replies);
    const asked = [];
    const answer = (parameters) => {
      asked.push(parameters.expression);
      return '248327';
    };
    const runner = client.chat.completions.runTools({
      ...ask,
      budget,
      stream: true,
      tools: [zodFunction({ name: 'calculator', parameters: Calculator, function: answer })],
    });
    assert.equal(await runner.finalContent(), 'It is 248327.');
    assert.deepEqual(asked, [expression]);
    assert.equal((await upstream.seen()).at(-1).body.messages.at(-1).content, '248327');
  });

  test(`structured output is parsed from a stream, at budget ${budget}`, async () => {
    await upstream.always({ content: '{"expression": "1 + 1"}' });
    const runner = client.chat.completions.stream({
      ...ask,
      budget,
      response_format: zodResponseFormat(Calculator, 'calculation'),
    });
    const { choices } = await runner.finalChatCompletion();
    assert.deepEqual(choices[0].message.parsed, { expression: '1 + 1' });
  });
}

test('progress passes by the helper', async () => {
  await upstream.always({ content: 'one' });
  const runner = client.chat.completions.stream({
    ...ask,
    budget: 3,
    stream_options: { include_progress: true, include_usage: true },
  });
  const told = [];
  runner.on('chunk', ({ progress }) => progress && told.push(progress.completed));
  assert.equal(await runner.finalContent(), 'one');
  assert.equal(told.at(-1), 3);
});

test('an error in the middle rejects what the helper promised', async () => {
  await upstream.always({ content: 'one two three four', error: { message: 'the model fell over', type: 'server_error' } });
  const runner = client.chat.completions.stream({ ...ask, budget: 1 });
  let heard = '';
  runner.on('content', (delta) => (heard += delta));
  await assert.rejects(runner.finalChatCompletion(), (error) => {
    assert.ok(error instanceof OpenAI.APIError);
    assert.match(error.message, /the model fell over/);
    return true;
  });
  assert.match(heard, /^one /);
  assert.equal((await upstream.counters()).requests, 1);
});
