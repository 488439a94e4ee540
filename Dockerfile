# Anomaly detection for Prometheus-compatible metrics; takes vmanomaly's place without a change around it.
#   docker build -t engine .
#   docker run -p 8500:8500 -v ./config.yml:/config.yaml engine /config.yaml
# Classic syntax only, so that builders without BuildKit (buildah, docker's old one) read it too.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    VENV=/opt/engine/venv

# What changes rarely comes first: a change of our code installs nothing again.
COPY requirements-image.lock ./
RUN python -m venv --without-pip $VENV \
    && python -m pip --python $VENV/bin/python install -q --no-compile --require-hashes -r requirements-image.lock \
    && find $VENV -type d -name tests -prune -exec rm -rf {} +

COPY pyproject.toml README.md LICENSE ./
COPY kernels ./kernels
COPY engine ./engine
# Bytecode is checked by nothing at run time: the file system may be read-only, and the files do not change.
# Plotly's thousand classes have none: reports take only its script.
# Kernels are compiled for this machine's CPU; on another model the first start compiles its own. numba writes
# its cache for one user's eyes, and the service runs as another one.
RUN python -m pip --python $VENV/bin/python install -q --no-compile --no-deps . \
    && $VENV/bin/python -m compileall -q --invalidation-mode unchecked-hash -x 'plotly/(graph_objs|validators)/' $VENV/lib \
    && mkdir /opt/engine/kernels \
    && ENGINE_KERNEL_CACHE=/opt/engine/kernels $VENV/bin/python -m engine.warmup \
    && chmod -R a+rX /opt/engine/kernels

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/engine/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ENGINE_HEALTH_URL=http://127.0.0.1:8500/health
COPY --from=build /opt/engine /opt/engine
WORKDIR /vmanomaly
RUN chown 1000:1000 /vmanomaly
USER 1000:1000
EXPOSE 8500
# Another port or path prefix in the configuration: set ENGINE_HEALTH_URL to match. Proxy settings are for queries.
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=6 \
    CMD ["python", "-I", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(os.environ['ENGINE_HEALTH_URL'], timeout=3)"]
ENTRYPOINT ["engine"]
