// A bare fan-out server on uWebSockets: one topic; POST /publish sends its body to everybody who subscribed. With OpenSSL it speaks TLS:
// `fanout-tls PORT CERTIFICATE KEY`.
#include "App.h"
#include <cstdlib>
#include <memory>
#include <string>

struct Connection {};

int main(int argc, char **argv) {
  const int port = argc > 1 ? atoi(argv[1]) : 9000;
#ifdef LIBUS_USE_OPENSSL
  if (argc < 4) return 1;
  uWS::SSLApp app({ .key_file_name = argv[3], .cert_file_name = argv[2] });
#else
  uWS::App app;
#endif
  app.ws<Connection>("/ws", {
    .compression = uWS::DISABLED,
    .maxPayloadLength = 64 * 1024,
    .idleTimeout = 28,                 // pings every 25 s or so, as the others do
    .sendPingsAutomatically = true,
    .message = [](auto *ws, std::string_view, uWS::OpCode) {
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
