"""The offline API: speaks OpenAI's Assistants and Responses APIs, for trying askmill and for its tests.

Started as a process (`python -m askmill.emulator`); it imports nothing of askmill and nothing imports it.

    server ─▶ app ─▶ faults ─▶ wire.Routes ─▶ one file a resource ─▶ engine (plan, answers) ─▶ state
"""
