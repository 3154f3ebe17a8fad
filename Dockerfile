# The images of the service (target `service`), of the simulated cloud (`cloud`), and the one in which tests and lint run
# (`development`). They build with BuildKit and with the older builder alike.

# An operator may name one by its digest: PYTHON_IMAGE=python:3.13-slim-trixie@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS packages
COPY requirements-service.hashes.txt /tmp/
# Wheels only: nothing here may need a compiler. The packages' own tests and the installer stay behind.
RUN python -m venv /opt/vmsvc \
    && /opt/vmsvc/bin/python -m pip install --no-cache-dir --disable-pip-version-check --retries 5 \
        --only-binary :all: --require-hashes -r /tmp/requirements-service.hashes.txt \
    && /opt/vmsvc/bin/python -m pip uninstall --yes --quiet pip \
    && find /opt/vmsvc -type d -name tests -prune -exec rm -rf {} +


FROM ${PYTHON_IMAGE} AS runtime
# The empty folders give new volumes their owner.
RUN install -d -m 700 -o 10001 -g 10001 /data /etc/openstack /etc/vmsvc
COPY --from=packages /opt/vmsvc /opt/vmsvc
WORKDIR /srv
ENV PATH=/opt/vmsvc/bin:/usr/local/bin:/usr/bin:/bin HOME=/data PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1


# It needs nothing else of vmsvc. An image of its own does not change with the service, whose replicas are then replaced
# while the cloud goes on.
FROM runtime AS cloud
COPY vmsvc/__init__.py vmsvc/__init__.py
COPY vmsvc/simulator vmsvc/simulator
RUN python -m compileall -q vmsvc
USER 10001:10001
ENTRYPOINT ["python", "-m", "vmsvc.simulator"]


FROM runtime AS service
COPY static static
COPY vmsvc vmsvc
RUN python -m compileall -q vmsvc
# A container's loopback is its own: it has to listen on all addresses. Who may reach it is decided where its port is
# published, which docker-compose.yml does on the machine's loopback.
ENV VMSVC_ADDRESS=0.0.0.0
USER 10001:10001
EXPOSE 8888
# No proxy of the environment is asked about this container itself.
HEALTHCHECK --interval=3s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; r.build_opener(r.ProxyHandler({}), r.HTTPSHandler(context=ssl._create_unverified_context())).open(('https' if os.environ.get('VMSVC_TLS_CERT') else 'http') + '://127.0.0.1:8888/readyz', timeout=4)"]
ENTRYPOINT ["python", "-m", "vmsvc"]
CMD ["serve"]


FROM ${PYTHON_IMAGE} AS development
# Chromium for the tests of the dashboard, curl for those of the README's examples, pgbouncer for those of the database.
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends make curl chromium fonts-dejavu-core pgbouncer >/dev/null \
    && rm -rf /var/lib/apt/lists/* && install -d -o 10001 -g 10001 /srv/vmsvc
# PostgreSQL asks for the name of its user.
RUN useradd --uid 10001 --create-home developer
WORKDIR /srv/vmsvc
USER 10001:10001
COPY --chown=10001:10001 requirements-dev.hashes.txt ./
RUN python -m venv .venv \
    && .venv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check --retries 5 \
        --only-binary :all: --require-hashes -r requirements-dev.hashes.txt
COPY --chown=10001:10001 . .
# For make: all that these files ask for is there, and nothing is to be installed without its hash.
RUN touch .venv/.service .venv/.tests
CMD ["make", "run_test"]
