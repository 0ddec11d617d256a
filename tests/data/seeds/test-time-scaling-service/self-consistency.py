from openai import OpenAI

client = OpenAI(
    base_url="http://localhost:8001/v1",
    api_key="your-openrouter-key"
)

response = client.chat.completions.create(
    model="openai/gpt-4o-mini",
    messages=[
        {"role": "system", "content": "Reason step by step, put answer in \\boxed{}."},
        {"role": "user", "content": "What is 15 * 7?"}
    ],
    extra_body={
        "tts_strategy": "self_consistency",
        "num_paths": 5
    }
)

print(response.choices[0].message.content)
print(response.choices[0].tts_metadata)  # consensus_score, answer_distribution
