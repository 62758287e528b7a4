/* The peer that costs least: what OpenSSL itself takes for a handshake with every target, in C, on one thread.

   cc -O2 -o probe bench/peers/probe.c -lssl -lcrypto
   probe ROOT_PEM IN_FLIGHT < targets      with - for ROOT_PEM: without verification

   A target is a line "address port name". For each one a line "name thumbprint notAfter subject issuer names" is
   written: what the product reports of a leaf. A target that fails gives "name -". */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct target { char address[64], name[256]; int port, fd; SSL *ssl; };

static int epoll_fd;
static SSL_CTX *context;

static void print_hex(const unsigned char *bytes, unsigned int length) {
    for (unsigned int i = 0; i < length; i++) printf("%02X", bytes[i]);
}

static void report(struct target *target) {
    X509 *leaf = SSL_get1_peer_certificate(target->ssl);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length;
    char text[512];
    printf("%s ", target->name);
    X509_digest(leaf, EVP_sha1(), digest, &length);
    print_hex(digest, length);
    X509_digest(leaf, EVP_sha256(), digest, &length);
    putchar(' ');
    print_hex(digest, length);
    struct tm until;
    ASN1_TIME_to_tm(X509_get0_notAfter(leaf), &until);
    strftime(text, sizeof text, " %Y-%m-%dT%H:%M:%SZ ", &until);
    fputs(text, stdout);
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf), NULL);
    char *serial = BN_bn2hex(number);
    printf("%s ", serial);
    OPENSSL_free(serial);
    BN_free(number);
    printf("%s ", X509_NAME_oneline(X509_get_subject_name(leaf), text, sizeof text));
    printf("%s ", X509_NAME_oneline(X509_get_issuer_name(leaf), text, sizeof text));
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type == GEN_DNS) printf("%s,", (const char *)ASN1_STRING_get0_data(name->d.dNSName));
    }
    putchar('\n');
    GENERAL_NAMES_free(names);
    X509_free(leaf);
}

static void start(struct target *target) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(target->port)};
    inet_pton(AF_INET, target->address, &where.sin_addr);
    target->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    target->ssl = SSL_new(context);
    SSL_set_fd(target->ssl, target->fd);
    SSL_set_tlsext_host_name(target->ssl, target->name);
    SSL_set1_host(target->ssl, target->name);
    SSL_set_connect_state(target->ssl);
    connect(target->fd, (struct sockaddr *)&where, sizeof where);
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = target};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, target->fd, &event);
}

/* Whether it is finished. */
static int go_on(struct target *target) {
    int done = SSL_do_handshake(target->ssl);
    if (done != 1) {
        int error = SSL_get_error(target->ssl, done);
        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
            struct epoll_event event = {
                .events = error == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT, .data.ptr = target};
            epoll_ctl(epoll_fd, EPOLL_CTL_MOD, target->fd, &event);
            return 0;
        }
        printf("%s -\n", target->name);
        ERR_clear_error();
    } else {
        report(target);
    }
    SSL_free(target->ssl);
    close(target->fd);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int in_flight = atoi(argv[2]), count = 0, room = 1024, next = 0, open = 0;
    struct target *targets = malloc(room * sizeof *targets);
    while (scanf("%63s %d %255s", targets[count].address, &targets[count].port, targets[count].name) == 3)
        if (++count == room) targets = realloc(targets, (room *= 2) * sizeof *targets);
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    if (strcmp(argv[1], "-")) {
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        if (SSL_CTX_load_verify_locations(context, argv[1], NULL) != 1) return 3;
    }
    epoll_fd = epoll_create1(0);
    struct epoll_event events[256];
    while (next < count || open) {
        for (; next < count && open < in_flight; next++, open++) start(&targets[next]);
        int ready = epoll_wait(epoll_fd, events, 256, 5000);
        if (ready <= 0) return 4;
        for (int i = 0; i < ready; i++) open -= go_on(events[i].data.ptr);
    }
    return 0;
}
