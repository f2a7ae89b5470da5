package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strconv"
)

//go:embed static/*.js static/*.css static/*.svg
var staticFiles embed.FS

// An asset is a file of the program's own that pages load.
type asset struct {
	text          []byte
	kind, version string
}

// assets are those files, by name.
var assets = loadAssets()

func loadAssets() map[string]asset {
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		panic(err)
	}
	all := map[string]asset{}
	for _, e := range entries {
		text, err := staticFiles.ReadFile("static/" + e.Name())
		if err != nil {
			panic(err)
		}
		kind := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(e.Name())]
		hash := sha256.Sum256(text)
		all[e.Name()] = asset{text, kind, hex.EncodeToString(hash[:6])}
	}
	return all
}

// assetAddress is the address of such a file. It has the file's hash, so that no browser uses that of
// another version of the program.
func assetAddress(name string) string { return "/static/" + name + "?v=" + assets[name].version }

// static serves the style sheet and the scripts.
func (s *Server) static(w http.ResponseWriter, r *http.Request) {
	file, ok := assets[r.PathValue("name")]
	if !ok {
		s.message(w, r, http.StatusNotFound, "There is no such file.")
		return
	}
	if r.URL.RawQuery == "v="+file.version {
		w.Header().Set("Cache-Control", "private, max-age=86400, immutable")
	}
	w.Header().Set("Content-Type", file.kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(file.text)))
	w.Write(file.text)
}
