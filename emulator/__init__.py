"""The offline API: OpenAI's Assistants, Responses and chat completions, for trials and tests without a key.

Started as a process (`python -m askmill.emulator`); it imports nothing of askmill and nothing imports it.

    protocol     what every endpoint shares: requests and replies, routes, validation, errors, ids, pages
    simulation   how a run proceeds: directives, scenario, plan, prompt, answer, files, journal; no HTTP
    resources    one module per resource of the API: handlers, objects, what a run writes, event streams
    server       the ASGI application, fault injection, the registry of all resources
    tutor        the mathematics tutor that answers

A request: server.App ─▶ fault_injection.Faults ─▶ routing.Routes ─▶ handler in resources ─▶ simulation.Engine
"""
