# A drop-in for the tensorflow/serving image: the same ports, variables and arguments. docs/docker.md tells how to run it.
#   docker build -t aspired .
#   docker build -t aspired:gpu --build-arg EXTRAS=[gpu] .
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

ARG EXTRAS=
WORKDIR /opt/aspired
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY cluster cluster
COPY servables servables
RUN pip install -c constraints.txt ".${EXTRAS}"
COPY scripts/docker_entrypoint /usr/local/bin/docker_entrypoint

RUN useradd --create-home --uid 1000 aspired && mkdir /models && chown aspired /models
USER aspired
WORKDIR /home/aspired

EXPOSE 8500 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/v1/health/live', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["docker_entrypoint"]
