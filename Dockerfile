# One static binary and nothing else. Two ways to it:
#
#   docker build -t trine .                  in a builder that comes from a registry
#   experiments/compose/image                offline, of the binary that cargo builds here:
#     docker build --network=none --target prebuilt --build-arg BINARY=FILE .
#
# The order counts: the classic builder makes every stage before its target, so what needs no registry comes first.

FROM scratch AS base
# Of a folder in the image a new volume takes its owner.
COPY --chown=65532:65532 experiments/compose/volume /var/lib/trine
USER 65532:65532
# A server listens where its network can reach it, and wants --announce, a topology or, alone, a loopback address to tell.
ENV TRINE_BIND=0.0.0.0 TRINE_DIR=/var/lib/trine/data
VOLUME /var/lib/trine
# The gateway, and the cores of a server with up to eight.
EXPOSE 7000-7008
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["/trine", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/trine"]
CMD ["serve"]

FROM base AS prebuilt
ARG BINARY=target/x86_64-unknown-linux-gnu/dist/trine
COPY ${BINARY} /trine

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ libc6-dev
WORKDIR /trine
COPY . .
# Which commit this is, for `trine --version`: the context has no repository. --build-arg COMMIT=$(git rev-parse HEAD)
ARG COMMIT=
# With --target the flags hold for what is built to run there, and not for what cargo runs while it builds.
RUN host=$(rustc -vV | sed -n 's/^host: //p') \
    && TRINE_COMMIT="$COMMIT" RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile dist -p trine --bin trine --target "$host" \
    && cp "target/$host/dist/trine" /trine/static

FROM base
COPY --from=build /trine/static /trine
