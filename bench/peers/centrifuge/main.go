// A fan-out server on the centrifuge engine: JSON protocol, one channel without history, POST /publish sends its body to it.
// `fanout PORT [CERTIFICATE KEY]`; with the latter it speaks TLS.
package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/centrifugal/centrifuge"
)

const channel = "topic"

func main() {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelError})
	if err != nil {
		panic(err)
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: ""}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, answer centrifuge.SubscribeCallback) {
			answer(centrifuge.SubscribeReply{}, nil)
		})
		// A call without a purpose: what a client asks that only wants an answer.
		client.OnRPC(func(_ centrifuge.RPCEvent, answer centrifuge.RPCCallback) {
			answer(centrifuge.RPCReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ws", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		CheckOrigin: func(*http.Request) bool { return true },
	}))
	mux.HandleFunc("/publish", func(out http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err == nil {
			_, err = node.Publish(channel, body)
		}
		if err != nil {
			http.Error(out, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = out.Write([]byte("{}"))
	})
	go func() {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if node.Shutdown(limit) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}()
	address := "127.0.0.1:" + os.Args[1]
	if len(os.Args) > 3 {
		panic(http.ListenAndServeTLS(address, os.Args[2], os.Args[3], mux))
	}
	panic(http.ListenAndServe(address, mux))
}
