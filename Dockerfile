# BASE is any image with Python 3.11 or newer, pip and venv; both stages stand on it, so that the environment fits.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
# where pip takes from. Without a network: PIP_NO_INDEX=1, and PIP_FIND_LINKS=a folder of wheels in BASE
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ARG PIP_INDEX_URL
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY sidecar sidecar
COPY parsers parsers
# with [auth], for --auth-file: who runs an image cannot add to it
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[auth]'
# from the wheels alone: what is installed is what was built and fetched above
RUN python3 -m venv --without-pip /opt/ai-sidecar \
    && pip --python /opt/ai-sidecar/bin/python install --no-cache-dir --no-index --find-links /wheels /wheels/*.whl

FROM ${BASE}
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ai-sidecar" \
      org.opencontainers.image.description="Prometheus metrics for AI calls, read from the logs that AI clients already write" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /opt/ai-sidecar /opt/ai-sidecar
# nothing is written: the root file system may be read-only
ENV PATH=/opt/ai-sidecar/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# numeric, so that Kubernetes can tell that it is not root
USER 65532:65532
EXPOSE 9464
ENTRYPOINT ["ai-sidecar"]
