# The daemon as a container. SIP and RTP want the host's network:
#
#   docker build -t smartswitch .
#   docker run --network host -v smartswitch:/var/lib/smartswitch \
#       -v ./smartswitch.toml:/etc/smartswitch.toml:ro smartswitch

# The build backend is in the development lock only; everything that is installed anywhere is pinned by its hash.
FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv /build && /build/bin/pip install --no-cache-dir --require-hashes -r requirements-dev.lock
RUN python -m venv /opt/smartswitch && /opt/smartswitch/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY b2bua b2bua
COPY web web
COPY widget widget
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/smartswitch/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/smartswitch --create-home smartswitch
COPY --from=build /opt/smartswitch /opt/smartswitch
ENV PATH=/opt/smartswitch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SMARTSWITCH_CONFIG=/etc/smartswitch.toml \
    SMARTSWITCH_SERVER__DATA_DIR=/var/lib/smartswitch
USER smartswitch
WORKDIR /var/lib/smartswitch
VOLUME /var/lib/smartswitch
EXPOSE 5060/udp 5060/tcp 8080/tcp 16384-32767/udp
# SIGTERM drains: no new calls, and those that are up may end by themselves. Give it the time: docker stop -t 40.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["smartswitch"]
CMD ["serve"]
