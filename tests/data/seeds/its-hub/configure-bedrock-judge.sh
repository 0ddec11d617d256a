curl -X POST http://localhost:8108/configure \
  -H "Content-Type: application/json" \
  -d '{
    "provider": "litellm",
    "endpoint": "auto",
    "api_key": null,
    "model": "bedrock/us.anthropic.claude-3-7-sonnet-20250219-v1:0",
    "alg": "best-of-n",
    "rm_name": "llm-judge",
    "judge_model": "bedrock/us.anthropic.claude-3-7-sonnet-20250219-v1:0",
    "judge_base_url": "auto",
    "judge_mode": "groupwise",
    "judge_criterion": "multi_step_tool_judge",
    "judge_api_key": null,
    "judge_temperature": 0.7,
    "judge_max_tokens": 2048,
    "extra_args": {
      "aws_access_key_id": "your-access-key",
      "aws_secret_access_key": "your-secret-key",
      "aws_region_name": "us-east-1"
    }
  }'
