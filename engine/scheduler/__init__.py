"""When to fit and infer: a pure plan and the live loop that follows it."""
