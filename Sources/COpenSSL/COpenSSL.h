// SPDX-License-Identifier: Apache-2.0
// OpenSSL 3, and those of its macros and variadic functions that Swift cannot see.
#ifndef COPENSSL_H
#define COPENSSL_H
#include <openssl/ssl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <openssl/crypto.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

// HKDF with SHA-256 (RFC 5869).
static inline int cossl_hkdf(const unsigned char *secret, size_t secret_length, const unsigned char *info,
                             size_t info_length, unsigned char *out, size_t out_length)
{
    int result = 0;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    if (context) {
        OSSL_PARAM parameters[] = {
            OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret, secret_length),
            OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, info_length),
            OSSL_PARAM_construct_end(),
        };
        result = EVP_KDF_derive(context, out, out_length, parameters);
    }
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return result;
}

static inline EVP_PKEY *cossl_make_p256_key(void) { return EVP_EC_gen("P-256"); }
static inline int cossl_use_version(SSL_CTX *context, int oldest)
{
    return SSL_CTX_set_min_proto_version(context, oldest);
}
static inline void cossl_use_no_tickets(SSL_CTX *context) { SSL_CTX_set_options(context, SSL_OP_NO_TICKET); }
// Buffers of a session that is idle go back to the allocator: thousands of connections may be open.
static inline void cossl_release_buffers(SSL_CTX *context)
{
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}
static inline int cossl_set_server_name(SSL *session, const char *name)
{
    return (int)SSL_set_tlsext_host_name(session, name);
}
static inline long cossl_pending(BIO *bio) { return BIO_pending(bio); }
static inline long cossl_memory(BIO *bio, char **start) { return BIO_get_mem_data(bio, start); }
static inline X509_NAME *cossl_make_name(const char *common)
{
    X509_NAME *name = X509_NAME_new();
    if (name && !X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, (const unsigned char *)common,
                                            -1, -1, 0)) {
        X509_NAME_free(name);
        return NULL;
    }
    return name;
}
// Adds an extension by its text form.
static inline int cossl_add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (!extension) return 0;
    int done = X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    return done;
}
// The number of URI names in a certificate, and one of them; the caller frees what it is given.
static inline GENERAL_NAMES *cossl_alternative_names(const X509 *certificate)
{
    return (GENERAL_NAMES *)X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}
static inline int cossl_name_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }
static inline const ASN1_STRING *cossl_uri(const GENERAL_NAMES *names, int index)
{
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
    return name && name->type == GEN_URI ? name->d.uniformResourceIdentifier : NULL;
}
static inline void cossl_free_names(GENERAL_NAMES *names) { GENERAL_NAMES_free(names); }
static inline int cossl_error_reason(unsigned long code) { return ERR_GET_REASON(code); }
static inline int cossl_set_digest_sign(EVP_PKEY *key, X509 *certificate)
{
    return X509_sign(certificate, key, EVP_sha256());
}
#endif
