# One image for every process of an installation: `docker run IMAGE WORDS` runs `pst WORDS`.
#
#   docker build --tag pst-service .                                  torch for the CPU
#   docker build --tag pst-service --build-arg TORCH=cu130 .          torch for CUDA 13.0
#   docker build --tag pst-service --build-arg EXTRAS=standalone,demo,onnx .
#                                       `pst serve` too, with the database and broker it embeds

FROM python:3.11-slim-trixie AS dependencies
RUN python -m venv /opt/pst
ENV PATH=/opt/pst/bin:$PATH
WORKDIR /source
# torch alone comes from PyTorch's index: of what torch needs, that has other releases than we pin.
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/${TORCH}
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --index-url "${TORCH_INDEX}" --constraint constraints.txt torch
# None of our packages is here yet, so this installs what they need and an empty one, which goes
# again: the layer stays as it is until pyproject.toml or constraints.txt change.
ARG EXTRAS=demo,onnx
COPY pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/pip \
    touch README.md LICENSE \
    && pip install --constraint constraints.txt ".[${EXTRAS}]" \
    && pip uninstall --yes pst-service

FROM dependencies AS package
# For the part of the reader that is in C, which a build without them would leave out.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends "gcc=4:14.*" "libc6-dev=2.41-*" \
    && rm -rf /var/lib/apt/lists/*
COPY . ./
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheels . \
    && pip install --no-deps --no-index --target /built /wheels/*.whl \
    && ls /built/pst_core/formats/_place.*.so

FROM python:3.11-slim-trixie
# tini is process 1: it hands signals on, and reaps what killed trainers leave behind.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends "tini=0.19.*" \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home --no-log-init pst \
    && install --directory --owner=pst --group=pst --mode=0700 /data
COPY --from=dependencies /opt/pst /opt/pst
RUN --mount=type=bind,from=package,source=/wheels,target=/wheels \
    /opt/pst/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
ENV PATH=/opt/pst/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PST_DATA=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["tini", "--", "pst"]
CMD ["api", "--host", "0.0.0.0", "--port", "8000"]
# Of the API, which is the default command: run the others with --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/readyz', timeout=8, trust_env=False).raise_for_status()"]
