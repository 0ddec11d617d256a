// openai-node against models of Bedrock: `test_bedrock_answers.py` has started the daemon, and the stub in place of the
// upstream.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import OpenAI from 'openai';

import { client, QUESTION, upstream } from './service.js';

const model = 'bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0';
const ask = { model, messages: QUESTION };
const callOf = (expression, id) => ({ tool_use: { id, name: 'calculator', input: { expression } } });
const calculator = {
  name: 'calculator',
  description: 'Perform arithmetic calculations',
  parameters: { type: 'object', properties: { expression: { type: 'string' } }, required: ['expression'] },
};
const tools = [{ type: 'function', function: calculator }];
const content = [
  { reasoning: { text: 'Let me calculate.', signature: 'c2ln' } },
  { redacted: 'aGlkZGVu' },
  { text: 'Two calls:' },
  callOf('847 * 293 + 156', 'tooluse_a'),
  callOf('1 + 1', 'tooluse_b'),
];
const thinking = [
  { type: 'thinking', thinking: 'Let me calculate.', signature: 'c2ln' },
  { type: 'redacted_thinking', data: 'aGlkZGVu' },
];

for (const budget of [1, 3]) {
  test(`the stream helper tells calls apart and keeps what the model thought, at budget ${budget}`, async () => {
    await upstream.always({ content });
    const runner = client.chat.completions.stream({ ...ask, tools, budget });
    const done = [];
    runner.on('tool_calls.function.arguments.done', ({ index, name }) => done.push([index, name]));
    const { choices } = await runner.finalChatCompletion();
    assert.deepEqual(done, [[0, 'calculator'], [1, 'calculator']]);
    const [{ message, finish_reason }] = choices;
    assert.equal(finish_reason, 'tool_calls');
    assert.equal(message.content, 'Two calls:');
    assert.deepEqual(message.tool_calls.map(({ id }) => id), ['tooluse_a', 'tooluse_b']);
    const parsed = message.tool_calls.map((called) => JSON.parse(called.function.arguments));
    assert.deepEqual(parsed, [{ expression: '847 * 293 + 156' }, { expression: '1 + 1' }]);
    assert.deepEqual(message.thinking_blocks, thinking);
  });

  test(`chunks bring text, reasoning and usage, at budget ${budget}`, async () => {
    await upstream.always({ content, usage: { inputTokens: 10, outputTokens: 3, totalTokens: 13 } });
    const stream = await client.chat.completions.create({
      ...ask,
      budget,
      stream: true,
      stream_options: { include_usage: true },
    });
    let [text, reasoning, usage] = ['', '', null];
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      reasoning += chunk.choices[0]?.delta.reasoning_content ?? '';
      usage = chunk.usage ?? usage;
    }
    assert.deepEqual([text, reasoning], ['Two calls:', 'Let me calculate.']);
    assert.equal(usage.completion_tokens, 3 * budget);
  });
}

for (const stream of [false, true]) {
  test(`runTools calls the function and ends${stream ? ', streamed' : ''}`, async () => {
    const call = { content: [callOf('847 * 293 + 156', 'tooluse_a')] };
    await upstream.steps(call, { content: [{ text: 'It is 248327.' }] });
    const asked = [];
    const answer = ({ expression }) => {
      asked.push(expression);
      return '248327';
    };
    const runner = client.chat.completions.runTools({
      ...ask,
      stream,
      tools: [{ type: 'function', function: { ...calculator, parse: JSON.parse, function: answer } }],
    });
    assert.equal(await runner.finalContent(), 'It is 248327.');
    assert.deepEqual(asked, ['847 * 293 + 156']);
  });
}

test('an exception in the middle of a stream is thrown', async () => {
  const exception = { kind: 'ModelStreamErrorException', message: 'the model fell over' };
  await upstream.always({ content: [{ text: 'one two three four' }], exception, exception_after: 3 });
  const stream = await client.chat.completions.create({ ...ask, stream: true });
  let text = '';
  await assert.rejects(async () => {
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
  }, /the model fell over/);
  assert.equal(text, 'one two');
});

test('throttling is thrown as a rate limit', async () => {
  await upstream.always({ error: { kind: 'ThrottlingException' } });
  const asked = client.chat.completions.create(ask, { maxRetries: 0 });
  await assert.rejects(asked, (error) => error instanceof OpenAI.RateLimitError && error.code === 'rate_limit_exceeded');
});
