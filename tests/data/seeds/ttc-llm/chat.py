import openai

openai.api_base = "http://localhost:4000/v1"
openai.api_key = "sk-ProxyKey"  # A dummy key for your proxy

response = openai.ChatCompletion.create(
    model="meta-llama/Meta-Llama-3.1-8B-Instruct-wait-6",
    messages=[{"role": "user", "content": "What is 15!?"}]
)

print(response["choices"][0]["message"]["content"])
