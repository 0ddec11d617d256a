// openai-node calls tools: voted on, streamed, and in the loop that its `runTools` drives.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { client, upstream } from './service.js';

const QUESTION = [{ role: 'user', content: 'What is 847 * 293 + 156?' }];
const CALCULATOR = {
  type: 'function',
  function: {
    name: 'calculator',
    description: 'Perform arithmetic calculations',
    parameters: {
      type: 'object',
      properties: { expression: { type: 'string' } },
      required: ['expression'],
    },
  },
};

const callOf = (expression) => ({
  tool_calls: [{ id: 'call_abc', name: 'calculator', arguments: JSON.stringify({ expression }) }],
});

beforeEach(upstream.reset);

test('the tool call that most candidates make is the answer', async () => {
  const right = callOf('847 * 293 + 156');
  await upstream.steps(callOf('847 * 293'), right, right, right);
  const completion = await client.chat.completions.create({
    model: 'gpt-4o-mini',
    messages: QUESTION,
    tools: [CALCULATOR],
    tool_choice: 'auto',
    budget: 4,
  });
  const [choice] = completion.choices;
  assert.equal(choice.finish_reason, 'tool_calls');
  assert.equal(choice.message.tool_calls.length, 1);
  assert.equal(choice.message.tool_calls[0].type, 'function');
  assert.deepEqual(JSON.parse(choice.message.tool_calls[0].function.arguments), { expression: '847 * 293 + 156' });
});

for (const budget of [1, 3]) {
  test(`the stream helper puts a tool call together, at budget ${budget}`, async () => {
    await upstream.always(callOf('847 * 293 + 156'));
    const runner = client.chat.completions.stream({
      model: 'gpt-4o-mini',
      messages: QUESTION,
      tools: [CALCULATOR],
      budget,
    });
    const called = [];
    runner.on('tool_calls.function.arguments.done', ({ name, index }) => called.push({ name, index }));
    const completion = await runner.finalChatCompletion();
    assert.deepEqual(called, [{ name: 'calculator', index: 0 }]);
    const [call] = completion.choices[0].message.tool_calls;
    assert.equal(call.id, 'call_abc');
    assert.deepEqual(JSON.parse(call.function.arguments), { expression: '847 * 293 + 156' });
    assert.equal(completion.choices[0].finish_reason, 'tool_calls');
  });
}

for (const stream of [false, true]) {
  test(`runTools calls the function, hands its result back and ends${stream ? ', streamed' : ''}`, async () => {
    const call = callOf('847 * 293 + 156');
    const reply = { content: 'It is 248327.' };
    await upstream.steps(call, call, call, reply, reply, reply);
    const asked = [];
    const runner = client.chat.completions.runTools({
      model: 'gpt-4o-mini',
      messages: QUESTION,
      stream,
      budget: 3,
      stop_rule: 'none',
      tools: [
        {
          type: 'function',
          function: {
            ...CALCULATOR.function,
            parse: JSON.parse,
            function: ({ expression }) => {
              asked.push(expression);
              return '248327';
            },
          },
        },
      ],
    });
    assert.equal(await runner.finalContent(), 'It is 248327.');
    assert.deepEqual(asked, ['847 * 293 + 156']);
    const { messages } = (await upstream.seen()).at(-1).body;
    assert.deepEqual(messages.at(-1), { role: 'tool', tool_call_id: 'call_abc', content: '248327' });
    assert.equal((await upstream.counters()).requests, 6);
  });
}
