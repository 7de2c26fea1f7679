-- Calls without metrics: what metrics are compared with.
drop trigger _600_metrics_insert on calls;
drop trigger _600_metrics_update on calls;
drop trigger _600_metrics_delete on calls;
