// Command authoriser is an example of a platform's side of Belfry's question
// "may they be told of this?": docs/authoriser.md. It checks the signature, and
// lets those see an object who are listed for it in a file of rules:
//
//	{"course/41": ["user/8", "user/9"], "course/42": []}
//
// What the file does not speak of it leaves open: Belfry asks again later. A
// real platform asks its own database instead.
//
//	AUTHORISER_SECRET=whsec_... go run ./examples/authoriser -listen 127.0.0.1:9000 -rules rules.json
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

type question struct {
	Data struct {
		Questions []struct{ Principal, Address, Object, Type string }
	}
}

type answer struct {
	Allow   bool   `json:"allow"`
	Because string `json:"because,omitempty"`
}

func main() {
	listen := flag.String("listen", "127.0.0.1:9000", "address")
	rules := flag.String("rules", "rules.json", "file of rules")
	flag.Parse()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("AUTHORISER_SECRET"), "whsec_"))
	if err != nil || len(key) == 0 {
		log.Fatal("set AUTHORISER_SECRET to the endpoint's secret, whsec_...")
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on http://" + l.Addr().String())
	server := &http.Server{Handler: handler(key, *rules, time.Now), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.Serve(l))
}

func handler(key []byte, rules string, now func() time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil || !signed(key, r.Header, body, now()) {
			http.Error(w, "not signed by Belfry", http.StatusUnauthorized)
			return
		}
		var asked question
		var listed map[string][]string
		text, err := os.ReadFile(rules)
		if err == nil {
			err = json.Unmarshal(text, &listed)
		}
		if err == nil {
			err = json.Unmarshal(body, &asked)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError) // no answer: Belfry tells nobody, and asks again
			return
		}
		// One answer for each question, in their order; null leaves it open.
		answers := []*answer{}
		for _, q := range asked.Data.Questions {
			people, known := listed[q.Object]
			switch {
			case !known:
				answers = append(answers, nil)
			case q.Principal != "" && slices.Contains(people, q.Principal):
				answers = append(answers, &answer{Allow: true})
			default:
				answers = append(answers, &answer{Because: "not listed for " + q.Object})
			}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(map[string]any{"answers": answers}); err != nil {
			log.Print(err)
		}
	}
}

// signed checks the signature as of every webhook (standardwebhooks.com).
func signed(key []byte, h http.Header, body []byte, now time.Time) bool {
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || math.Abs(now.Sub(time.Unix(seconds, 0)).Minutes()) > 5 {
		return false
	}
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, s := range strings.Fields(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(s), []byte(want)) {
			return true
		}
	}
	return false
}
