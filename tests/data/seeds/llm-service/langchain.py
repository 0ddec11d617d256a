from langchain_community.llms import OpenAI
from langchain_community.embeddings import OpenAIEmbeddings

# LLM
llm = OpenAI(
    base_url="http://localhost:8000/v1",
    api_key="not-needed",
    model="medium"
)
response = llm.invoke("What is the meaning of life?")
