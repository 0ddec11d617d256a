import requests

# Check service health
response = requests.get("http://localhost:8000/health")

# Generate text
response = requests.post("http://localhost:8000/v1/chat/completions", json={
    "model": "medium",
    "messages": [{"role": "user", "content": "Hello!"}]
})
