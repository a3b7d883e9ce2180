"""The kinds of errors that only a request meets."""

from app.kinds.kind import Kind

# What a request can be refused for, by status.
REQUESTS = {
    "bad_request": Kind(
        400,
        "The request cannot be read",
        "What was sent is not what its headers say, or breaks off.",
        "Send it again; if it stays so, look at what stands between the client and the service.",
    ),
    "invalid_json": Kind(
        400,
        "The body is not JSON",
        "It is not UTF-8 or not JSON, names a field of one object twice, is nested too deeply, or "
        "holds what JSON or the database has no place for: NaN, infinities, numbers of thousands "
        "of digits, NUL, halves of surrogate pairs.",
        "The detail says what and where; any JSON library writes it properly.",
    ),
    "invalid_key": Kind(
        401,
        "The API key is not valid",
        "The key is missing, malformed, unknown, expired or revoked. The answer is the same for "
        "each of them.",
        "Send the header Authorization: Bearer pst_…; `pst keys create --name NAME` makes one.",
    ),
    "insufficient_scope": Kind(
        403,
        "The API key may not do this",
        "The key is valid, and lacks the scope that the route needs; the detail names it.",
        "Send a key with that scope, or with admin.",
    ),
    "cross_site": Kind(
        403,
        "The form was sent from elsewhere",
        "A form of the page came from another origin, or without saying from which.",
        "Open the page itself, and send the form from there; programs use the API.",
    ),
    "not_found": Kind(
        404,
        "There is no such thing",
        "Nothing has this id or path; what is another project's is answered the same way.",
        "Check the path, the id, and whose key is sent.",
    ),
    "no_such_format": Kind(
        404,
        "There is no such format",
        "The job has succeeded, but published no checkpoint in this format.",
        "Ask for one that the job's artifacts list, or post a job that names it in formats.",
    ),
    "no_such_file": Kind(
        404,
        "There is no such file",
        "The checkpoint has no file of this name.",
        "GET /jobs/{id}/artifacts lists the files.",
    ),
    "method_not_allowed": Kind(
        405,
        "The method is not allowed",
        "The path is there, but not for this method; Allow lists those that are.",
        "/docs lists the routes.",
    ),
    "body_too_slow": Kind(
        408,
        "The body did not arrive in time",
        "The request's body was not complete some seconds after its head. The connection is "
        "closed.",
        "Send it again, at once.",
    ),
    "wrong_status": Kind(
        409,
        "The job's status does not allow it",
        "The job has ended, or is not in a status from which this can be done; the detail names "
        "the present one.",
        "Look at the job; docs/architecture.md draws which moves there are.",
    ),
    "key_not_active": Kind(
        409,
        "The key has no successor",
        "It is revoked or expired, or was rotated before.",
        "POST /keys makes another.",
    ),
    "endpoint_disabled": Kind(
        409,
        "The webhook endpoint is switched off",
        "Its owner did that, it answered 410, or it took nothing for days; disabled_reason says "
        "which.",
        "PATCH /webhook-endpoints/{id} with enabled: true, then ask again.",
    ),
    "job_not_succeeded": Kind(
        409,
        "The job has no checkpoint",
        "Only a job that has succeeded has something to download.",
        "Wait until its status is succeeded.",
    ),
    "nothing_fits": Kind(
        409,
        "No job of the sweep is as asked",
        "None that has succeeded satisfies all constraints; the detail says which of them nobody "
        "meets, and by how much.",
        "Allow more, wait for the sweep's other jobs, or post more combinations.",
    ),
    "no_report": Kind(
        409,
        "There is no report yet",
        "A job has one once it has succeeded.",
        "Wait until its status is succeeded.",
    ),
    "request_in_flight": Kind(
        409,
        "The first request is not done yet",
        "A request with this Idempotency-Key is still being worked on.",
        "Send it again after the seconds of Retry-After.",
    ),
    "dataset_not_ready": Kind(
        409,
        "The dataset is not checked yet",
        "A job can only be posted with a dataset that is ready.",
        "Wait until its status is ready: GET /datasets/{id} tells.",
    ),
    "dataset_in_use": Kind(
        409,
        "Jobs need the dataset",
        "It cannot be deleted before the jobs that name it have ended; the detail lists them.",
        "Cancel them, or wait until they have ended.",
    ),
    "upload_given_up": Kind(
        409,
        "The upload is not wanted any more",
        "Its dataset was deleted while it arrived, or the service lost sight of it.",
        "Send it again.",
    ),
    "checkpoint_gone": Kind(
        410,
        "The checkpoint is gone",
        "The job published it, and it is no longer in the storage.",
        "Post the job again; it will make the same one.",
    ),
    "precondition_failed": Kind(
        412,
        "It is another file",
        "If-Match names another file than there is.",
        "Leave If-Match out; the ETag is the SHA-256 of the bytes.",
    ),
    "body_too_large": Kind(
        413,
        "The body is too large",
        "It has more bytes than are read. They are counted as they arrive, whatever its headers "
        "say.",
        "Send the spec alone; models and data are named by reference. Of a dataset, send less, or "
        "compressed, or have the operator raise PST_MAX_UPLOAD_BYTES.",
    ),
    "uri_too_long": Kind(
        414,
        "The URL is too long",
        "Path and query together have more bytes than are read.",
        "Send next_cursor as it came; no other parameter is long.",
    ),
    "unsupported_media_type": Kind(
        415,
        "The body is in no form that is read",
        "It is compressed, or its Content-Type is not JSON; of a dataset, it is none of those that "
        "are read.",
        "Send Content-Type: application/json, and no Content-Encoding; a dataset as the detail "
        "says.",
    ),
    "range_not_satisfiable": Kind(
        416,
        "The file ends before the range",
        "Range asks for bytes that the file does not have; Content-Range says how many it has.",
        "Ask for bytes that it has; a client that has as many already has all of them.",
    ),
    "invalid_request": Kind(
        422,
        "A field or parameter is not valid",
        "Something is missing, unknown, of the wrong type or out of its bounds; errors lists all "
        "of it, each with its place.",
        "/docs has the fields of each call and their bounds.",
    ),
    "digest_mismatch": Kind(
        422,
        "The body is not what its digest says",
        "Content-Digest or Repr-Digest names another SHA-256 than the body has. Nothing is kept.",
        "Send it again; if it stays so, look at what stands between the client and the service.",
    ),
    "invalid_cursor": Kind(
        422,
        "The cursor is not one of ours",
        "A cursor was made up, cut or changed.",
        "Pass on next_cursor of the page before, unchanged.",
    ),
    "no_such_event": Kind(
        422,
        "The job has no such event",
        "Last-Event-ID, or after, is a number that the job has not reached: another job's.",
        "Leave it out to get all events from the first on.",
    ),
    "cursor_of_another_list": Kind(
        422,
        "The cursor is of another list",
        "It came with another project's key, or with other filters.",
        "Pass it on with the key and the filters of the page before, or leave it out.",
    ),
    "invalid_webhook_url": Kind(
        422,
        "Nothing is sent to this URL",
        "It is not https, has a user or a fragment, or leads to a port or an address that this "
        "installation sends nothing to.",
        "Give a public https URL; who runs this service can allow more.",
    ),
    "idempotency_key_reused": Kind(
        422,
        "The key was used for something else",
        "This Idempotency-Key came with another body before.",
        "Use a new key for a new request.",
    ),
    "model_not_here": Kind(
        422,
        "The model is not here yet",
        "An estimate is made from a model's configuration, which is on a hub; only jobs fetch.",
        "Estimate with a model of the same architecture that is here, or with a finished job of "
        "this one.",
    ),
    "quota_exceeded": Kind(
        429,
        "The project has as much as it may have",
        "As many of its jobs wait, as many bytes are stored, or it has as many webhook endpoints, "
        "as its quota says; the detail names which.",
        "Wait, cancel jobs, or delete some of what there is; who runs this service can raise the "
        "quota.",
    ),
    "too_many_streams": Kind(
        429,
        "Too many streams are open",
        "The key, or all keys together, have as many streams open as they may.",
        "Close some, or ask for pages of JSON.",
    ),
    "rate_limited": Kind(
        429,
        "Too many requests",
        "The key asked more often than it may, or too many bad keys came from the address.",
        "Send it again after the seconds of Retry-After; RateLimit says how many are left.",
    ),
    "headers_too_large": Kind(
        431,
        "The headers are too large",
        "There are too many of them, or one is too long.",
        "Send only those that are needed; look for cookies and proxies that add some.",
    ),
    "internal": Kind(
        500,
        "Something went wrong here",
        "A fault of the service; its log has the cause under the request's id, or the job's.",
        "Report the request_id, or the job's id, to who runs this service.",
        ends_jobs=True,
    ),
    "checkpoint_corrupt": Kind(
        502,
        "The checkpoint is damaged",
        "What is in the storage is no longer what the job published, so nothing of it is sent.",
        "Tell who runs this service, or post the job again.",
    ),
    "storage_unavailable": Kind(
        503,
        "The storage does not take what it is given",
        "Writing a checkpoint, a snapshot or an upload failed, or the bucket does not answer.",
        "Look at the storage, a folder or a bucket, then retry the job, or ask again.",
        ends_jobs=True,
    ),
    "shutting_down": Kind(
        503,
        "The process is about to end",
        "It opens no more streams; another one serves soon, or does already.",
        "Come again after the seconds of Retry-After.",
    ),
    "database_unavailable": Kind(
        503,
        "The database does not answer in time",
        "It is away, busy, or holds what this request waits for. Nothing was changed.",
        "Send it again after the seconds of Retry-After; a POST under its Idempotency-Key.",
    ),
}
