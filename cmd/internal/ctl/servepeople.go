package ctl

import (
	"errors"
	"net/http"

	"py3run/cmd/internal/access"
)

// toldOfPolicy makes of an error of the policy one that a visitor may learn. A broken policy lets nobody
// in but the owner of the log, who may read its file.
func toldOfPolicy(err error) error {
	var broken *access.PolicyError
	if errors.As(err, &broken) {
		return visible{err, http.StatusConflict, hint(err)}
	}
	return told(err)
}
