response = client.chat.completions.create(
    model="Qwen/Qwen2.5-7B-Instruct",
    messages=[...],
    extra_body={
        "tts_strategy": "offline_bon",
        "tts_num_trajectories": 8,
        "tts_scorer": "entropy",        # entropy, perplexity, sequence_prob, prm
        "tts_score_aggregation": "min",  # min, mean, max, product, last
    }
)
