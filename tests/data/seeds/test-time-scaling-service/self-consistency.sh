curl -X POST http://localhost:8001/v1/chat/completions \
  -H "Content-Type: application/json" \
  -d '{
    "model": "openai/gpt-4o-mini",
    "messages": [
      {"role": "system", "content": "Reason step by step, put answer in \\boxed{}."},
      {"role": "user", "content": "What is 15 * 7?"}
    ],
    "tts_strategy": "self_consistency",
    "num_paths": 5
  }'
