# BASE is any image with Python 3.11 or newer and pip; both stages stand on it, so that the environment fits.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY sidecar sidecar
COPY parsers parsers
RUN pip wheel --no-cache-dir --wheel-dir /wheels .
# from the wheels alone: what is installed is what was built and fetched above
RUN python3 -m venv --without-pip /opt/ai-sidecar \
    && pip --python /opt/ai-sidecar/bin/python install --no-cache-dir --no-index --find-links /wheels ai-sidecar

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ai-sidecar" \
      org.opencontainers.image.description="Prometheus metrics for AI calls, read from the logs that AI clients already write" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/ai-sidecar /opt/ai-sidecar
# nothing is written: the root file system may be read-only
ENV PATH=/opt/ai-sidecar/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# numeric, so that Kubernetes can tell that it is not root
USER 65532:65532
EXPOSE 9464
ENTRYPOINT ["ai-sidecar"]
