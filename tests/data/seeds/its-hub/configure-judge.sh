curl -X POST http://localhost:8108/configure \
  -H "Content-Type: application/json" \
  -d '{
    "provider": "litellm",
    "endpoint": "auto",
    "api_key": "your-openai-api-key",
    "model": "gpt-4o-mini",
    "alg": "best-of-n",
    "rm_name": "llm-judge",
    "judge_model": "gpt-4o-mini",
    "judge_base_url": "auto",
    "judge_mode": "groupwise",
    "judge_criterion": "multi_step_tool_judge",
    "judge_api_key": "your-openai-api-key",
    "judge_temperature": 0.7,
    "judge_max_tokens": 2048
  }'
