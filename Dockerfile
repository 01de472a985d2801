# covlab for a CPU or an NVIDIA GPU, by the argument EXTRA.
#   docker build -t covlab .                             # CPU
#   docker build -t covlab-cuda --build-arg EXTRA=cuda . # NVIDIA GPU; tpu: a TPU
#   docker run --rm -v "$PWD/runs:/work/runs" covlab train steps=20
#   docker run --rm --gpus all -v "$PWD/runs:/work/runs" covlab-cuda train seeds=16
# CUDA is in JAX's wheels; the driver is the host's, passed in by the NVIDIA container toolkit.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim
ARG EXTRA=sweep

WORKDIR /opt/covlab
COPY pyproject.toml requirements.lock LICENSE ./
COPY tasks tasks
COPY models models
COPY decoding decoding
COPY metrics metrics
COPY training training
COPY tracking tracking
COPY theory theory
COPY covlab covlab
COPY experiments experiments
COPY conf conf
# The lock has the versions, and the argument which of them are installed.
RUN pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock ".[${EXTRA}]"

# Any user may write: docker run --user "$(id -u):$(id -g)" leaves runs that belong to that user.
RUN mkdir -p /work/runs /cache && chmod 1777 /work /work/runs /cache
ENV HOME=/work COVLAB_CACHE=/cache PYTHONUNBUFFERED=1
# What the NVIDIA container toolkit passes in: CUDA, and nvidia-smi.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /work
# Without a shell between: `docker stop --time 120` is a SIGTERM to the run, which saves and ends.
ENTRYPOINT ["covlab"]
CMD ["--help"]
