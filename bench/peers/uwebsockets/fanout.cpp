// A bare fan-out server on uWebSockets: one topic; POST /publish sends its body to everybody who subscribed, which any message but "ping?"
// does. With OpenSSL it speaks TLS: `fanout-tls PORT CERTIFICATE KEY`.
#include "App.h"
#include <cstdlib>
#include <memory>
#include <string>
#ifdef LIBUS_USE_OPENSSL
#include <openssl/ssl.h>
#endif

struct Connection {};

int main(int argc, char **argv) {
  const int port = argc > 1 ? atoi(argv[1]) : 9000;
#ifdef LIBUS_USE_OPENSSL
  if (argc < 4) return 1;
  // Buffers of TLS are given back while a connection is quiet: the least memory that it can have.
  uWS::SSLApp app({ .key_file_name = argv[3], .cert_file_name = argv[2], .ssl_prefer_low_memory_usage = 1 });
  // One ticket a handshake, as Tidegate sends; OpenSSL's default is two.
  SSL_CTX_set_num_tickets(static_cast<SSL_CTX *>(app.getNativeHandle()), 1);
#else
  uWS::App app;
#endif
  app.ws<Connection>("/ws", {
    .compression = uWS::DISABLED,
    .maxPayloadLength = 64 * 1024,
    // It pings 16 s before this time is over, which is after 24 s: its timers go in steps of 4 s, and this is the nearest to 25 s.
    .idleTimeout = 40,
    .sendPingsAutomatically = true,
    .message = [](auto *ws, std::string_view said, uWS::OpCode) {
      if (said == "ping?") {
        ws->send("pong!", uWS::OpCode::TEXT);
        return;
      }
      ws->subscribe("topic");
      ws->send("live", uWS::OpCode::TEXT);
    },
  });
  app.post("/publish", [&app](auto *res, auto *) {
    auto body = std::make_shared<std::string>();
    res->onAborted([] {});
    res->onData([res, body, &app](std::string_view chunk, bool last) {
      body->append(chunk);
      if (!last) return;
      app.publish("topic", *body, uWS::OpCode::TEXT, false);
      res->end("{}");
    });
  });
  app.listen("127.0.0.1", port, [](auto *socket) { if (!socket) exit(1); });
  app.run();
}
