# syntax=docker/dockerfile:1
# An image of a static binary that is there already, a release's or your own: the context is the folder it is in.
#
#   docker build -f deploy/docker/binary.Dockerfile -t misaki FOLDER
#
# A binary that is not static wants its libraries: --build-arg BASE=gcr.io/distroless/cc-debian12
ARG BASE=scratch

FROM alpine:3 AS root
RUN install -d -o 65532 -g 65532 -m 0700 /root-of-image/var/lib/misaki /root-of-image/run/misaki \
 && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/ca-certificates.crt

FROM ${BASE}
COPY --from=root /root-of-image/ /
COPY --chmod=0755 misaki /misaki
USER 65532:65532
EXPOSE 4317 4318
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/misaki", "status", "--check"]
ENTRYPOINT ["/misaki"]
