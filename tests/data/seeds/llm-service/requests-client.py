import requests

base_url = "http://localhost:8000"

# Chat completion
response = requests.post(f"{base_url}/v1/chat/completions", json={
    "model": "medium",
    "messages": [
        {"role": "user", "content": "Explain quantum computing"}
    ],
    "max_tokens": 200
})
result = response.json()
print(result["choices"][0]["message"]["content"])
