# The workers' image: askmill in an environment of its own, run by a user without rights.
FROM python:3.13-slim AS worker
WORKDIR /app
COPY requirements.txt pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY askmill askmill
COPY config config
COPY jobs jobs
COPY worker worker
COPY emulator emulator
COPY web web
RUN pip install --no-cache-dir --no-deps . && useradd --create-home --uid 10001 askmill
USER 10001
WORKDIR /home/askmill
ENTRYPOINT ["askmill"]
CMD ["worker"]

FROM worker AS web

FROM worker AS flower
USER 0
RUN pip install --no-cache-dir "flower>=2"
USER 10001

FROM worker
