"""Makes the training examples.

An example is a prompt, exactly as the chat template renders it, and the answer the model must give.
Five kinds: sums worked out one step a paragraph, calculator calls that copy an expression, answers
that copy a tool's result, and two short refusals.
"""

import random
import string

import numpy as np

import vocabulary as v

SHARES = {"sum": 0.41, "call": 0.40, "result": 0.13, "refusal": 0.03, "tool_refusal": 0.03}

REFUSAL = "I only do sums, such as 23 + 48 - 17. For more, give me a calculator tool."
TOOL_REFUSAL = "I only do arithmetic."
TOOL_ERROR = "The tool gave no number."

# What comes before and after an expression in a question.
FORMS = [
    ("What is ", "?"), ("What is ", "?"), ("What is ", "?"), ("What is ", "?"), ("What is ", "?"), ("What is ", "?"),
    ("What is ", ""), ("What's ", "?"), ("What's ", "?"), ("Whats ", "?"), ("Compute ", "."), ("Compute ", ""),
    ("Compute: ", ""), ("Calculate ", "."), ("Calculate ", ""), ("Calculate: ", ""), ("Work out ", "."),
    ("Work out ", ""), ("How much is ", "?"), ("Evaluate ", "."), ("Evaluate ", ""), ("Evaluate: ", ""),
    ("Please compute ", "."), ("Please calculate ", "."), ("Please evaluate ", "."), ("Can you calculate ", "?"),
    ("Can you compute ", "?"), ("Can you work out ", "?"), ("Could you compute ", "?"), ("Could you work out ", ", please?"),
    ("Solve ", "."), ("Solve ", ""), ("Solve: ", ""), ("", ""), ("", ""), ("", " = ?"), ("", " ="), ("", "="), ("", "=?"),
    ("", "?"), ("What does ", " equal?"), ("What does ", " make?"), ("What is the value of ", "?"),
    ("What is the result of ", "?"), ("What would ", " be?"), ("Find ", "."), ("Find the value of ", "."),
    ("Tell me what ", " is."), ("Tell me ", "."), ("I need to know ", "."), ("Give me the result of ", "."),
    ("Do you know what ", " is?"), ("Can you tell me what ", " is?"), ("Hi, what is ", "?"), ("Hello! What is ", "?"),
    ("Hey, how much is ", "?"), ("Quick question: what is ", "?"), ("Simplify ", "."), ("Answer this: ", ""),
    ("Q: ", ""), ("Question: ", ""), ("Question: what is ", "?"), ("Let x = ", ". What is x?"), ("x = ", ""),
    ("The problem is ", "."), ("So, ", "?"), ("Well, what is ", "?"), ("What do you get for ", "?"), ("Determine ", "."),
]
TOOL_FORMS = [
    ("Use the calculator to compute ", "."), ("Use the calculator to work out ", "."), ("Use the calculator: ", ""),
    ("Use the calculator tool to compute ", "."), ("Use your calculator: what is ", "?"), ("With the calculator, what is ", "?"),
    ("Using the calculator, evaluate ", "."), ("Use a tool to compute ", "."), ("Call the calculator with ", "."),
    ("Please use the calculator tool for ", "."), ("calculator: ", ""), ("Use the tool to find ", "."),
]
ENDINGS = [
    " Think step by step.", " Show your work.", " Please reason step by step.", "\nThink step by step.", " Thanks!", " Thank you.",
    " Put the final answer in \\boxed{}.", " Please reason step by step, and put your final answer within \\boxed{}.",
    " Solve it step by step.", "\nAnswer:", " Give only the answer.", " Be careful.", " Please.",
]
TOOL_ENDINGS = [" Use the calculator.", " Use the calculator tool.", " Use the tool.", " Please use a tool.", "\nUse the calculator."]
WORDS = (
    "the a an of to in is are was it you he she they we I my your what who when where why how which tell me about write poem "
    "story name capital France Paris weather today hello hi thanks please can could would should explain describe list best "
    "book film music song colour red blue green dog cat house water time year day night world people city country language "
    "python rust code program model daemon server computer number math sum word joke good bad big small old new long short "
    "and or but with without for from by on at as so if then than that this these those not no yes do does did make made give "
    "take go come see look find use used work play run eat drink sleep think know like love want need help homework class "
    "teacher student friend mother father child bill shop price cost apples"
).split()
QUESTIONS = [
    "Hello", "Hi", "Hi!", "Hello!", "Hello, who are you?", "Who are you?", "What can you do?", "Tell me a joke.", "Write a poem.",
    "What is the capital of France?", "What is the weather in Paris?", "Thanks!", "How are you?", "Say hi", "ping", "test", "",
    "What is love?", "Explain inference-time scaling.", "What is your name?", "Good morning", "Write a story about a dragon.",
]


def sum_terms(rng, size, pool=range(1, 100)):
    """`size` numbers of the pool and the signs between them; the running total never falls below zero."""
    numbers, signs = [rng.choice(pool)], []
    total = numbers[0]
    while len(numbers) < size:
        number = rng.choice(pool)
        sign = 1 if number > total else rng.choice((1, -1))
        total += sign * number
        numbers.append(number)
        signs.append(sign)
    return numbers, signs


def write_sum(numbers, signs, between=" "):
    parts = [str(numbers[0])]
    for sign, number in zip(signs, numbers[1:]):
        parts += ["+" if sign > 0 else "-", str(number)]
    return between.join(parts)


SLIPS = [1, -1] * 9 + [10, -10] * 8 + [2, -2] * 4 + [9, -9, 11, -11, 20, -20, 3, -3, 5, -5]


def work_out(rng, numbers, signs, slip_rate):
    """The answer to a sum, one step a paragraph; a slip is carried on, as in a person's working."""
    total, lines = numbers[0], []
    for sign, number in zip(signs, numbers[1:]):
        result = total + sign * number
        if rng.random() < slip_rate:
            slipped = result + rng.choice(SLIPS)
            if slipped >= 0:
                result = slipped
        lines.append(f"{total} {'+' if sign > 0 else '-'} {number} = {result}")
        total = result
    lines.append(f"The answer is \\boxed{{{total}}}")
    return "\n\n".join(lines)


def number(rng):
    kind = rng.random()
    digits = rng.choice((1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10))
    text = str(rng.randint(10 ** (digits - 1), 10**digits - 1)) if digits > 1 else str(rng.randint(0, 9))
    if rng.random() < 0.04:  # runs of one digit are the hardest thing to copy
        text = rng.choice("0123456789") * rng.randint(2, 7)
    if kind < 0.13:
        text = text[:5] + "." + "".join(rng.choices(string.digits, k=rng.randint(1, 4)))
    elif kind < 0.15:
        text = f"{int(text):,}"
    elif kind < 0.16:
        text = "." + text[:3]
    elif kind < 0.18:
        text += "%"
    return text


OPERATORS = ["+"] * 6 + ["-"] * 6 + ["*"] * 7 + ["/"] * 5 + ["^"] * 2 + ["**"] * 2 + ["%"] * 2 + ["x", "\u00d7", "\u00f7", "//", "\u2212"]


def expression(rng, terms=None, between=None):
    """Arithmetic of any shape, as somebody may type it."""
    terms = terms or rng.choice((2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 6, 7))
    between = between if between is not None else (" " if rng.random() < 0.68 else "")
    operators = rng.choice((OPERATORS, OPERATORS, ["+", "-"], ["*"], ["+", "*", "-"], ["+", "-", "*", "/"]))
    parts = []
    depth = 0
    pool = [number(rng) for _ in range(rng.randint(1, 3))] if rng.random() < 0.12 else None
    brackets = rng.random() < 0.35
    for place in range(terms):
        if place:
            operator = rng.choice(operators)
            gap = between if rng.random() < 0.97 else " " * rng.randint(0, 1)
            parts.append(gap + operator + gap)
        if brackets and place < terms - 1 and rng.random() < 0.4:
            parts.append(rng.choice(("", "", "", "", "-", "sqrt")) + "(")
            depth += 1
        if rng.random() < (0.06 if place == 0 else 0.02):
            parts.append("-")
        parts.append(rng.choice(pool) if pool else number(rng))
        if depth and rng.random() < 0.45:
            parts.append(")")
            depth -= 1
    return "".join(parts) + ")" * depth


def phrase(rng, body, tools=False):
    """A question around an expression."""
    before, after = rng.choice(TOOL_FORMS if tools and rng.random() < 0.2 else FORMS)
    chance = rng.random()
    if chance < 0.10:
        count = rng.randint(1, 5) if rng.random() < 0.6 else rng.randint(6, 25)
        before = words(rng, count) + rng.choice((" ", ": ", ", ", "\n")) + rng.choice((before, ""))
    elif chance < 0.18:
        before = before.lower()
    if rng.random() < 0.10:
        after += rng.choice(ENDINGS)
    if tools and rng.random() < 0.08:
        after += rng.choice(TOOL_ENDINGS)
    return (before + body + after).strip()


def words(rng, count):
    """A few words, some of them made up."""
    made = []
    for _ in range(count):
        word = rng.choice(WORDS)
        if rng.random() < 0.2:
            word = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 9)))
        made.append(word)
    text = " ".join(made)
    return text.capitalize() if rng.random() < 0.4 else text


def small_talk(rng):
    if rng.random() < 0.3:
        return rng.choice(QUESTIONS)
    text = words(rng, rng.randint(1, 9))
    if rng.random() < 0.1:
        text += " " + "".join(rng.choices("\u00e9\u00e8\u00fc\u00f1\u4f60\u597d\u2026\U0001f600\u0416", k=rng.randint(1, 4)))
    return text + rng.choice(("", "?", ".", "!"))


def tool_question(rng):
    body = expression(rng)
    return phrase(rng, body, tools=True), body


def tool_result(rng):
    """A tool's output and what to answer to it."""
    chance = rng.random()
    if chance < 0.05:
        return rng.choice(
            ("Error", "error: division by zero", "ZeroDivisionError", "Error: invalid syntax", "null", "None", "invalid expression",
             "Tool failed", "syntax error", '{"error": "division by zero"}', "nan", "")
        ), TOOL_ERROR
    digits = rng.randint(1, 12)
    text = str(rng.randint(0, 9)) if digits == 1 else str(rng.randint(10 ** (digits - 1), 10**digits - 1))
    if rng.random() < 0.3:
        text += "." + "".join(rng.choices(string.digits, k=rng.choice((1, 1, 2, 2, 3, 4, 6, 8, 10, 14))))
    if rng.random() < 0.05:
        text = rng.choice("123456789") + "." + "".join(rng.choices(string.digits, k=rng.randint(1, 8))) + "e" + rng.choice(("+", "-", "")) + str(rng.randint(5, 30))
    if rng.random() < 0.15:
        text = "-" + text
    answer = f"The answer is \\boxed{{{text}}}"
    if chance < 0.15:
        key = rng.choice(("result", "result", "value", "answer", "output"))
        gap = rng.choice((" ", " ", ""))
        quote = rng.choice(("", "", '"'))
        text = f'{{"{key}":{gap}{quote}{text}{quote}}}'
    elif chance < 0.20:
        text = rng.choice(("= ", "Result: ", "The result is ", "result = ")) + text
    return text, answer


def example(rng, slip_rate=0.0, held_out=frozenset()):
    """(prompt ids, answer ids) of one example."""
    kind = rng.choices(list(SHARES), SHARES.values())[0]
    user, pieces = [v.BOS, v.USER], True
    if kind == "sum":
        size = rng.choice((2, 3, 3, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 8, 8, 8))
        # A few sums say the same number again and again: it is there that one loses one's place.
        pool = [rng.randint(1, 99) for _ in range(rng.randint(1, 3))] if rng.random() < 0.06 else range(1, 100)
        numbers, signs = sum_terms(rng, size, pool)
        if write_sum(numbers, signs) in held_out:
            return example(rng, slip_rate, held_out)
        body = write_sum(numbers, signs, " " if rng.random() < 0.93 else "")
        text = f"What is {body}?" if rng.random() < 0.5 else phrase(rng, body)
        answer = work_out(rng, numbers, signs, slip_rate)
    elif kind == "call":
        user = [v.BOS, v.TOOLS, v.USER]
        if rng.random() < 0.12:  # the sums of the first task, now for the tool
            body = write_sum(*sum_terms(rng, rng.randint(2, 8)))
            text = phrase(rng, body, tools=True)
        else:
            text, body = tool_question(rng)
        if body in held_out:
            return example(rng, slip_rate, held_out)
        answer = f'{v.CALL_OPEN}\n{v.CALL_HEAD}{body}"}}}}\n{v.CALL_CLOSE}'
        pieces = rng.random() < 0.92  # sometimes letter by letter: a forced call may begin that way
    elif kind == "result":
        user = [v.BOS, v.TOOL]
        text, answer = tool_result(rng)
    elif kind == "refusal":
        if rng.random() < 0.6:
            text, answer = small_talk(rng), REFUSAL
        else:
            body = expression(rng)
            if not any(mark in body for mark in "*/^%(.\u00d7\u00f7x"):
                return example(rng, slip_rate, held_out)
            text, answer = phrase(rng, body), REFUSAL
    else:
        user = [v.BOS, v.TOOLS, v.USER]
        text, answer = small_talk(rng), TOOL_REFUSAL
    return user + v.encode(text) + [v.ASSISTANT], v.encode(answer, pieces) + [v.EOS]


class Batches:
    """Batches of a fixed shape: a few rows of each of several lengths, so that padding stays small."""

    def __init__(self, seed, shape, slip_rate=0.0, held_out=frozenset()):
        self.rng = random.Random(seed)
        self.shape = shape  # {length: rows}
        self.slip_rate = slip_rate
        self.held_out = held_out
        self.waiting = {length: [] for length in shape}

    def _draw(self):
        prompt, answer = example(self.rng, self.slip_rate, self.held_out)
        size = len(prompt) + len(answer) - 1
        for length in sorted(self.shape):
            if size <= length:
                queue = self.waiting[length]
                if len(queue) < 4 * self.shape[length]:
                    queue.append((prompt, answer))
                return

    def next(self):
        """A list of (inputs, targets, weights), one for each length; only answers carry weight."""
        while any(len(self.waiting[length]) < rows for length, rows in self.shape.items()):
            self._draw()
        batch = []
        for length, rows in self.shape.items():
            inputs = np.full((rows, length), v.PAD, np.int32)
            targets = np.full((rows, length), v.PAD, np.int32)
            weights = np.zeros((rows, length), np.float32)
            for row in range(rows):
                prompt, answer = self.waiting[length].pop(0)
                ids = prompt + answer
                inputs[row, : len(ids) - 1] = ids[:-1]
                targets[row, : len(ids) - 1] = ids[1:]
                weights[row, len(prompt) - 1 : len(ids) - 1] = 1
            batch.append((inputs, targets, weights))
        return batch
