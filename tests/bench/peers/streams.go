// Bodies that stream and events, with Go's net/http on one processor. `run` builds it where Go is.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
)

func main() {
	runtime.GOMAXPROCS(1)
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	mebibytes := 50
	if len(os.Args) > 2 {
		mebibytes, _ = strconv.Atoi(os.Args[2])
	}
	piece := make([]byte, 64*1024)
	var lock sync.Mutex
	subscribers := map[chan string]bool{}

	http.HandleFunc("/plaintext", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "Hello, World!")
	})
	http.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < mebibytes*16; i++ {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	http.HandleFunc("/sink", func(w http.ResponseWriter, r *http.Request) {
		size, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintln(w, size)
	})
	http.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("bench-upload-%d", os.Getpid()))
		file, err := os.Create(name)
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		defer file.Close()
		size, _ := io.Copy(file, r.Body)
		fmt.Fprintln(w, size)
	})
	http.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		messages := make(chan string, 16)
		lock.Lock()
		subscribers[messages] = true
		lock.Unlock()
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: welcome\n\n")
		w.(http.Flusher).Flush()
		for {
			select {
			case message := <-messages:
				io.WriteString(w, message)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	http.HandleFunc("/publish", func(w http.ResponseWriter, r *http.Request) {
		lock.Lock()
		for messages := range subscribers {
			select {
			case messages <- "data: something has happened\n\n":
			default:
			}
		}
		lock.Unlock()
		io.WriteString(w, "published\n")
	})
	fmt.Printf("listening on http://%s/\n", listener.Addr())
	panic(http.Serve(listener, nil))
}
