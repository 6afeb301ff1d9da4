FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv --without-pip /opt/trade-sync
# Dependencies first: they change less often than the worker, and their layer is kept.
COPY requirements.lock /build/
RUN pip --python /opt/trade-sync/bin/python install --require-hashes --only-binary :all: -r /build/requirements.lock
COPY pyproject.toml README.md /build/
COPY worker /build/worker
RUN pip wheel --no-deps --wheel-dir /build/dist /build \
    && pip --python /opt/trade-sync/bin/python install --no-deps --no-index /build/dist/*.whl

FROM python:3.13-slim
# The worker installs nothing; without pip an intruder installs nothing either.
RUN pip uninstall --yes pip
COPY --from=build /opt/trade-sync /opt/trade-sync
ENV PATH=/opt/trade-sync/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8787
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-m", "worker.healthcheck"]
ENTRYPOINT ["trade-sync"]
CMD ["run"]
