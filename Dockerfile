# The gateway in a container: data in /data, DICOMweb on 8080, DIMSE on 11112, not as root.
#
#   docker build -t imaging-gateway .
#   docker run -v gateway-data:/data -v ./gateway.toml:/etc/gateway.toml -p 8080:8080 -p 11112:11112 imaging-gateway
#
# A container must listen on all its addresses, so the gateway asks for tokens and callers in [security] of
# /etc/gateway.toml; without them it says so and does not start.
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/gateway
COPY requirements.lock ./
RUN /opt/gateway/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY storage storage
COPY gateway gateway
RUN /opt/gateway/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
# What annotations are written with: Latin and Chinese. With ffmpeg beside them, multi-frame instances come as video too.
RUN apt-get update && apt-get install -y --no-install-recommends fonts-dejavu-core fonts-wqy-microhei \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home --home-dir /home/gateway gateway \
    && mkdir /data && chown gateway:gateway /data
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONUNBUFFERED=1 \
    GATEWAY_DATA=/data GATEWAY_WEB__LISTEN=0.0.0.0:8080 GATEWAY_DIMSE__LISTEN=0.0.0.0:11112
USER gateway
VOLUME /data
EXPOSE 8080 11112
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
ENTRYPOINT ["gateway"]
CMD ["serve", "--config", "/etc/gateway.toml"]
