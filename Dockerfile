# The command `nas` in an image, for CUDA or for CPUs alone; extras as wanted:
#   docker build -t nas .                                            torch with CUDA: docker run --gpus all nas ...
#   docker build -t nas --build-arg TORCH_INDEX=URL .                CPU, smaller: URL of PyTorch's index of CPU builds
#   docker build -t nas --build-arg EXTRAS=onnx,optuna,ray,report .  with Ray, as examples/kuberay.yaml needs it
#   docker run --rm -v "$PWD:/work" --user "$(id -u)" nas search --budget 'params<=2.5M' --out runs/a
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:${PYTHON}-slim
ARG TORCH_INDEX=""
ARG EXTRAS=onnx,optuna,report
# wget: what KubeRay asks the nodes of a cluster with
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /dist /dist
RUN if [ -n "$TORCH_INDEX" ]; then \
        pip install --no-cache-dir --index-url "$TORCH_INDEX" --constraint /tmp/constraints.txt torch; \
    fi \
    && pip install --no-cache-dir --constraint /tmp/constraints.txt "$(echo /dist/*.whl)[$EXTRAS]" \
    && rm -r /dist \
    && useradd --create-home nas \
    && install --directory --owner nas /work
ENV XDG_CACHE_HOME=/tmp/cache
USER nas
WORKDIR /work
ENTRYPOINT ["nas"]
CMD ["--help"]
