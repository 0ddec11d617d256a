curl -X POST http://localhost:8108/configure \
  -H "Content-Type: application/json" \
  -d '{
    "provider": "litellm",
    "endpoint": "auto",
    "api_key": null,
    "model": "bedrock/us.anthropic.claude-3-7-sonnet-20250219-v1:0",
    "alg": "self-consistency",
    "tool_vote": "tool_hierarchical",
    "exclude_args": ["timestamp", "request_id", "id"],
    "extra_args": {
      "aws_access_key_id": "your-access-key",
      "aws_secret_access_key": "your-secret-key",
      "aws_region_name": "us-east-1"
    }
  }'
