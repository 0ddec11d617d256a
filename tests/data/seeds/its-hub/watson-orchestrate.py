# Watson Orchestrate integration
import openai

client = openai.OpenAI(
    base_url="http://localhost:8108/v1",
    api_key="dummy-key"
)

response = client.chat.completions.create(
    model="Qwen/Qwen2.5-Math-1.5B-Instruct",
    messages=[{"role": "user", "content": "Solve this math problem"}],
    extra_body={"budget": 4}  # IaaS-specific parameter
)
